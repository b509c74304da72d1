"""Selections of the stored runs, for the page, its appendix and its plot."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from benchmarks.switching.matrix import NEVER, Cell, Job, Schedule, run_of

Runs = Sequence[dict[str, Any]]


def runs_of(runs: Runs, variant: str, link: str | None, schedule: str) -> list[dict[str, Any]]:
    """Return the figures of a variant's runs under a condition, one a seed; a run may stand for several conditions."""
    return [run["figures"] for run in runs if run["variant"] == variant and _stands_for(run, link, schedule)]


def _stands_for(run: dict[str, Any], link: str | None, schedule: str) -> bool:
    made, wanted = (
        Job(Cell(Schedule.parse(each_schedule), each_link, run["seed"]), run["variant"])
        for each_link, each_schedule in ((run["link"], run["schedule"]), (link, schedule))
    )
    return made == run_of(wanted)


def links(runs: Runs) -> list[str | None]:
    """Return the links of the runs, in order."""
    return list(dict.fromkeys(run["link"] for run in runs))


def schedules(runs: Runs, *, updates_only: bool = False) -> list[str]:
    """Return the schedules of the runs, in order."""
    return [name for name in dict.fromkeys(run["schedule"] for run in runs) if not (updates_only and name == NEVER)]


def means(runs: Runs, variant: str, link: str | None, figure: str) -> dict[str, float]:
    """Return a figure by schedule with updates: the mean over the seeds."""
    found = {name: runs_of(runs, variant, link, name) for name in schedules(runs, updates_only=True)}
    return {name: mean(each, figure) for name, each in found.items() if each}


def mean(figures: Sequence[dict[str, Any]], figure: str) -> float:
    """Return the mean of a figure over runs."""
    return fmean(each[figure] for each in figures)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1) -> str:
    """Return a Markdown table whose first ``names`` columns are names, and the others numbers."""
    lines = [columns, [*["---"] * names, *["--:"] * (len(columns) - names)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
