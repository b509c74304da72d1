"""What the terminal and a CSV file show."""

import csv
import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from clients.report import Outcome, Run, TurnRecord
from clients.reporting.csv_file import write_csv
from clients.reporting.slo import Slo
from clients.reporting.statistics import summarise
from clients.reporting.tables import MOST_TENANTS, number
from clients.reporting.terminal import print_summary

RunMaker = Callable[..., Run]
TurnMaker = Callable[..., TurnRecord]


def printed(run: Run, slo: Slo | None = None) -> str:
    out = io.StringIO()
    print_summary(summarise(run, slo), Console(file=out, width=100, highlight=False))
    return out.getvalue()


def line(text: str, start: str) -> list[str]:
    return next(line for line in text.splitlines() if line.strip().startswith(start)).split()


def test_latencies_are_in_milliseconds_and_marked_where_samples_are_few(turn: TurnMaker, run_of: RunMaker) -> None:
    text = printed(run_of(*(turn([0.25, 0.5]) for _ in range(60))))
    assert line(text, "TTFT") == ["TTFT", "60", "250", "250", "250", "~250", "~250", "~250", "250"]
    assert "~ depends on fewer than five samples" in text


def test_goodput_names_its_objective(turn: TurnMaker, run_of: RunMaker) -> None:
    text = printed(run_of(turn([1.0, 10.0]), turn([9.0])), Slo(ttft_s=5.0))
    assert line(text, "goodput") == ["goodput", "0.100", "requests/s,", "50.0", "%", "of", "2", "within", "ttft=5"]


def test_errors_saturation_and_interruption_come_first(turn: TurnMaker, run_of: RunMaker) -> None:
    broken = turn(outcome=Outcome.ERROR, error="http 503 overloaded")
    text = printed(run_of(turn([1.0]), broken, interrupted=True, saturated_at_s=30.0))
    head = text[: text.index("Load test")]
    assert "interrupted" in head
    assert "After 30 s the server fell behind" in head
    assert "1 of 2 turns ended with an error" in head
    assert line(text, "http 503") == ["http", "503", "overloaded", "1"]


def test_names_are_not_markup(turn: TurnMaker, run_of: RunMaker) -> None:
    turns = turn([1.0], tenant="[red]a[/red]"), turn([1.0], tenant="b")
    assert "[red]a[/red]" in printed(run_of(*turns, model="[bold]"))


def test_of_many_tenants_those_who_got_least_are_shown(turn: TurnMaker, run_of: RunMaker) -> None:
    text = printed(run_of(*(turn([1.0], tenant=f"t{index:03}", completion_tokens=index) for index in range(100))))
    shown = [word for word in text.split() if word.startswith("t0")]
    assert shown == [f"t{index:03}" for index in range(MOST_TENANTS)]
    assert f"The {MOST_TENANTS} with the least of 100." in " ".join(text.split())


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (0.0123, "0.012"), (3.14159, "3.14"), (42.42, "42.4"), (12345.6, "12,346")],
)
def test_numbers_have_few_figures(value: float, text: str) -> None:
    assert number(value) == text


def test_csv_has_a_line_a_turn(turn: TurnMaker, run_of: RunMaker, tmp_path: Path) -> None:
    run = run_of(turn([1.0, 1.5, 2.5], tenant='a,"b"'), turn(outcome=Outcome.ERROR, error="timeout", warmup=True))
    write_csv(run, tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as file:
        answered, failed = csv.DictReader(file)
    assert (answered["tenant"], answered["pieces"], answered["ttft_s"]) == ('a,"b"', "3", "1.0")
    assert (answered["mean_gap_s"], answered["longest_stall_s"], answered["e2e_s"]) == ("0.75", "1.0", "2.5")
    assert (failed["outcome"], failed["error"], failed["ttft_s"], failed["warmup"]) == ("error", "timeout", "", "True")
