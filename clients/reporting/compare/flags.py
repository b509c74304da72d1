"""The flags of `fastswitch load compare`, apart from its program: a command line can list them without loading it."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clients.reporting.slo import Slo


def add_compare_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that `run_compare` reads to ``parser``."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN.json", help="reports of runs; the others are compared with the first"
    )
    parser.add_argument("--slo", type=_slo, metavar="ttft=S,tbt=S", help="also compare the share of turns that met it")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write a page with the tables and plots")


def _slo(text: str) -> "Slo":
    from clients.reporting.slo import SloError, parse_slo  # noqa: PLC0415 - heavy

    try:
        return parse_slo(text)
    except SloError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
