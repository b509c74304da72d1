"""Admission: which requests a step is for, the best ranks that fit on the device together.

A request that does not fit is *blocked* and passed over: requests that rank lower *backfill* the blocks that it cannot
use. Blocks are counted from the whole pool in the order of ranks, so a backfilled request holds nothing that a blocked
one could not take back; only requests that rank above a blocked one delay it. `Claim` bounds that delay.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from allocator import KVMemory
from service.core.state.requests import Request, State


@dataclass(frozen=True, slots=True)
class Budget:
    """What one step may hold: query tokens, and batch rows of at least one token each."""

    tokens: int
    rows: int


@dataclass(frozen=True, slots=True)
class Admission:
    """A step's requests, best rank first. ``first_blocked`` is the best rank that does not fit."""

    admitted: list[Request]
    first_blocked: Request | None
    backfilled: frozenset[Request]  # the admitted that rank below it


def admit(ranked: Sequence[Request], running: Collection[Request], memory: KVMemory, rows: int) -> Admission:
    """Walk the ranks and admit every request that fits into what those above it leave, at most ``rows``.

    A request that is not running must leave a block for each admitted request above it to grow into.
    """
    admitted: list[Request] = []
    backfilled: list[Request] = []
    blocked: Request | None = None
    free = memory.device.num_blocks
    still_running = len(running)  # that the walk has not met
    for request in ranked:
        is_running = request in running
        still_running -= is_running
        need = memory.device_blocks_for(request.num_tokens)
        slack = 0 if is_running else len(admitted)
        if need + slack <= free:
            free -= need
            admitted.append(request)
            if blocked is not None:
                backfilled.append(request)
        elif blocked is None:
            blocked = request
        if len(admitted) == rows or not free or (free <= len(admitted) and not still_running):
            break  # no request below fits
    return Admission(admitted, blocked, frozenset(backfilled))


class Claim:
    """The claim of the first blocked request: passed over for ``timeout_s`` in all, it ranks first until it runs."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._request: Request | None = None
        self._passed_over_s = 0.0
        self._noted_s = 0.0

    def note(self, admission: Admission, now: float) -> None:
        """Take in a step's admission. A claim that is due stays until its request runs, and is used up then."""
        if self._request is not None and self._request.state in (State.RUNNING, State.FINISHED):
            self._request = None
        if self.due() is None and admission.first_blocked is not self._request:
            self._request, self._passed_over_s = admission.first_blocked, 0.0
        elif admission.backfilled:
            self._passed_over_s += now - self._noted_s
        self._noted_s = now

    def due(self) -> Request | None:
        """Return the request that ranks first now."""
        if self._request is None or self._request.state is State.FINISHED:
            return None
        return self._request if self._passed_over_s >= self._timeout_s else None
