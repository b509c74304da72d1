"""Runs checks, tells what came of each, and stores the list."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import inf
from time import perf_counter

from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.checks.check import Check, NotHereError, Outcome, Result
from benchmarks.gpu.rig import Rig
from service.errors import DeviceLostError

MARKS: dict[Outcome, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def run_checks(rig: Rig, groups: Sequence[str], budget_s: float = inf) -> Iterator[Result]:
    """Each check's result as it comes; after ``budget_s`` they are skipped.

    A lost device ends it, after the check that found it lost.
    """
    began = perf_counter()
    for group in groups:
        for check in _checks(rig, group):
            if perf_counter() - began > budget_s:
                yield Result(f"{group}: {check.name}", "skipped", f"no time after {budget_s:.0f} s", 0.0)
                continue
            result, lost = _run(check, group)
            yield result
            if lost:
                return


def _checks(rig: Rig, group: str) -> Iterator[Check]:
    """Of a group; one that fails in its place if they cannot be made."""
    try:
        yield from CHECKS[group](rig)
    except Exception as error:
        yield Check("the checks can be made", _raising(error))


def _raising(error: Exception) -> Callable[[], str]:
    def run() -> str:
        raise error

    return run


def _run(check: Check, group: str) -> tuple[Result, bool]:
    began = perf_counter()
    outcome: Outcome = "passed"
    lost = False
    try:
        remark = check.run()
    except NotHereError as reason:
        outcome, remark = "skipped", str(reason)
    except Exception as error:  # whatever it is, the others are still to be run
        outcome, remark = "failed", f"{type(error).__name__}: {error}"
        lost = isinstance(error, DeviceLostError)
    return Result(f"{group}: {check.name}", outcome, remark, perf_counter() - began), lost


def line(result: Result) -> str:
    """For people."""
    return f"{MARKS[result.outcome]:8}{result.name}" + (f" ({result.remark})" if result.remark else "")


def summary(outcomes: Sequence[Outcome]) -> str:
    """For people, in one line."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in MARKS)
