"""The protocol of a policy, and the settings that policies take."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

from service.core.admission import Admission, Room
from service.core.state.requests import Request


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """What policies can be told; each uses what concerns it."""

    seed: int  # of drawn priorities
    update_every: int  # steps between two draws
    ageing_s: float  # seconds of waiting that count as one level of priority; 0: none do
    hysteresis: float  # service by which a waiting request must be behind before it takes the place of a running one


@dataclass(frozen=True, slots=True)
class Delays:
    """What may keep core from following the ranks at once: ``steps`` of up to ``step_service`` each, in ``rows``."""

    rows: int
    steps: int
    step_service: float


class Policy(Protocol):
    """Ranks live requests. Ranks are strict: two requests never tie, so no two preempt each other in turn.

    A policy owns the queue of the requests that hold no KV; those that do, the *holders*, are brought to it each step.
    """

    name: ClassVar[str]
    promotes: ClassVar[bool]  # whether requests that are preempted again and again may go before its ranks

    def __init__(self, settings: PolicySettings) -> None:
        """Take what concerns the policy."""

    def add(self, request: Request) -> None:
        """Add a request to the queue."""

    def discard(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""

    def charge(self, request: Request, service: float) -> None:
        """Note that a request got ``service``, as in `Served`."""

    def rank(self, holders: Collection[Request], now: float, step: int) -> list[Request]:
        """Begin a plan, after ``step`` steps. Return the holders, the first to be served first."""

    def walk(self, first: Collection[Request], rest: list[Request], room: Room) -> Iterator[Request]:
        """Yield the ``rest`` of the holders and the queue in the order of ranks, as long as the queue's may fit.

        ``first`` are holders that go before them. Once ``room`` is full, only holders follow.
        """

    def end(self, admission: Admission, room: Room, now: float) -> None:
        """End a plan whose requests left ``room``."""

    def fairness(self, delays: Delays) -> tuple[float, float, float]:
        """Return the gap in service, its bound, and the seconds for which requests that did not fit were left out."""

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
