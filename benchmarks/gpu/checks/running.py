"""Run checks one after the other, as long as there is time, and describe their results."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from math import inf
from time import perf_counter

from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.checks.check import Check, CheckOutcome, CheckResult, NotHereError
from benchmarks.gpu.under_test import GPUUnderTest
from service.errors import DeviceLostError

LABELS: dict[CheckOutcome, str] = {"passed": "ok", "failed": "FAILED", "skipped": "skipped"}


def run_checks(gpu: GPUUnderTest, groups: Sequence[str], budget_s: float = inf) -> Iterator[CheckResult]:
    """Yield the result of each check as it ends. Checks that would begin after ``budget_s`` are skipped.

    A lost device ends the run, after the check that found it lost.
    """
    began = perf_counter()
    for group in groups:
        for check in _checks(gpu, group):
            if perf_counter() - began > budget_s:
                yield CheckResult(f"{group}: {check.name}", "skipped", f"no time after {budget_s:.0f} s", 0.0)
                continue
            result, lost = _run(check, group)
            yield result
            if lost:
                return


def _checks(gpu: GPUUnderTest, group: str) -> Iterator[Check]:
    """Yield the checks of a group, or a single failing one if they cannot be made."""
    try:
        yield from CHECKS[group](gpu)
    except Exception as error:
        yield Check("the checks can be made", _raising(error))


def _raising(error: Exception) -> Callable[[], str]:
    def run() -> str:
        raise error

    return run


def _run(check: Check, group: str) -> tuple[CheckResult, bool]:
    began = perf_counter()
    outcome: CheckOutcome = "passed"
    lost = False
    try:
        remark = check.run()
    except NotHereError as reason:
        outcome, remark = "skipped", str(reason)
    except Exception as error:  # whatever fails, the other checks still run
        outcome, remark = "failed", f"{type(error).__name__}: {error}"
        lost = isinstance(error, DeviceLostError)
    return CheckResult(f"{group}: {check.name}", outcome, remark, perf_counter() - began), lost


def line(result: CheckResult) -> str:
    """Return a line to print."""
    return f"{LABELS[result.outcome]:8}{result.name}" + (f" ({result.remark})" if result.remark else "")


def summary(outcomes: Sequence[CheckOutcome]) -> str:
    """Return a line to print: how many passed, failed and were skipped."""
    counts = Counter(outcomes)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in LABELS)
