"""What a check is, and what comes of it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.gpu.rig import Rig

Outcome = Literal["passed", "failed", "skipped"]


class NotHereError(Exception):
    """The check needs something that this machine has not."""


@dataclass(frozen=True, slots=True)
class Check:
    """``run`` raises what is wrong, or returns a remark, which may be empty."""

    name: str
    run: Callable[[], str]


Checks = Callable[[Rig], Iterable[Check]]


@dataclass(frozen=True, slots=True)
class Result:
    """``remark``: why it failed or was skipped, or what a check that passed has to say."""

    name: str
    outcome: Outcome
    remark: str
    seconds: float

    def told(self) -> dict[str, Any]:
        """As it is stored."""
        return {"name": self.name, "outcome": self.outcome, "remark": self.remark, "seconds": round(self.seconds, 3)}


def require(holds: bool, otherwise: str) -> None:
    """Raise AssertionError; unlike ``assert``, also under ``python -O``."""
    if not holds:
        raise AssertionError(otherwise)
