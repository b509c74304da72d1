"""A run as CSV for spreadsheets and data frames: one line a turn, warm-up included."""

import csv
import io
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from clients.files import replace_file
from clients.report import Run, TurnRecord
from clients.reporting.measures import answer_tokens, e2e_s, gaps_s, longest_stall_s, ttft_s

RECORDED = tuple(field.name for field in fields(TurnRecord) if field.name != "piece_s")
MEASURED = ("pieces", "answer_tokens", "ttft_s", "e2e_s", "mean_gap_s", "longest_stall_s")


def write_csv(run: Run, path: Path) -> None:
    """Write ``run``, whole or not at all. A value that a turn lacks is left empty. Raises `OSError`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*RECORDED, *MEASURED))
    writer.writerows(_line(turn) for turn in run.records)
    replace_file(path, text.getvalue().encode())


def _line(turn: TurnRecord) -> Sequence[object]:
    gaps = gaps_s(turn)
    mean = float(gaps.mean()) if gaps.size else None
    of_turn = (len(turn.piece_s), answer_tokens(turn), ttft_s(turn), e2e_s(turn), mean, longest_stall_s(turn))
    return (*(getattr(turn, name) for name in RECORDED), *of_turn)
