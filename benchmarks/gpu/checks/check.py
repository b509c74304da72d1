"""What a check is, and the result of running one."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from benchmarks.gpu.under_test import GPUUnderTest

CheckOutcome = Literal["passed", "failed", "skipped"]


class NotHereError(Exception):
    """This machine lacks something that the check needs."""


@dataclass(frozen=True, slots=True)
class Check:
    """``run`` raises an exception that says what is wrong, or returns a remark, which may be empty."""

    name: str
    run: Callable[[], str]


Checks = Callable[[GPUUnderTest], Iterable[Check]]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``remark``: why the check failed or was skipped, or the remark of one that passed."""

    name: str
    outcome: CheckOutcome
    remark: str
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return the form in which a result is stored."""
        return {**asdict(self), "seconds": round(self.seconds, 3)}


def require(holds: bool, otherwise: str) -> None:
    """Raise AssertionError saying ``otherwise`` unless ``holds``; unlike ``assert``, also under ``python -O``."""
    if not holds:
        raise AssertionError(otherwise)
