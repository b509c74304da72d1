"""`fastswitch load compare A.json B.json ...`: reads runs and prints them side by side."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from clients.errors import ClientError
from clients.files import replace_file
from clients.report import Run, RunFileError, read_run
from clients.reporting.compare.comparison import Comparison, compare
from clients.reporting.compare.tables import comparison_tables, differing_settings
from clients.reporting.html import render
from clients.reporting.plots import overlaid
from clients.reporting.terminal import print_tables

PIPE_WIDTH = 160  # columns of output that does not go to a terminal
EXIT_FAILED = 1


def run_compare(flags: argparse.Namespace) -> int:
    """Compare runs. Return the exit code: 1, with one line on stderr, if a file cannot be read or written."""
    try:
        runs = read_all(flags.runs)
        comparisons = compare(runs, flags.slo)
        if flags.html is not None:
            replace_file(flags.html, _page(runs, comparisons).encode())
    except (RunFileError, ClientError, OSError) as error:
        print(f"fastswitch: {error}", file=sys.stderr)
        return EXIT_FAILED
    if flags.json:
        print(json.dumps([_document(one) for one in comparisons], indent=2))
    else:
        width = None if sys.stdout.isatty() else PIPE_WIDTH
        print_tables([*comparison_tables(comparisons), differing_settings(runs)], Console(highlight=False, width=width))
    return 0


def read_all(paths: Sequence[Path]) -> dict[str, Run]:
    """Read runs, by file name, or by path if two names are the same. Raises OSError and `RunFileError`."""
    stems = [path.stem for path in paths]
    names = stems if len(set(stems)) == len(stems) else [str(path) for path in paths]
    return {name: read_run(path) for name, path in zip(names, paths, strict=True)}


def _document(one: Comparison) -> dict[str, object]:
    changes = [
        {**asdict(change), "significant": change.significant, "better": change.better if change.significant else None}
        for change in one.changes
    ]
    return {**asdict(one), "changes": changes}


def _page(runs: Mapping[str, Run], comparisons: Sequence[Comparison]) -> str:
    tables = [*comparison_tables(comparisons), differing_settings(runs)]
    return render(
        title="Load tests compared",
        subtitle=" · ".join(f"{name}: {run.started_at}" for name, run in runs.items()),
        notices=[f"{name} was interrupted." for name, run in runs.items() if run.interrupted],
        headlines=[],
        plots=overlaid(runs),
        tables=[table for table in tables if table.rows],
        settings=next(iter(runs.values())).settings,
    )
