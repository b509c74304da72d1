"""Admission: which requests a step is for, the best ranks that fit on the device together.

A request that does not fit is *blocked* and passed over: requests that rank lower *backfill* the blocks that it cannot
use. Blocks are counted from the whole pool in the order of ranks, so a backfilled request holds nothing that a blocked
one could not take back; only requests that rank above a blocked one delay it. `Claim` bounds that delay.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from service.core.state.owners import Prefix
from service.core.state.requests import Needs, Request, State


@dataclass(frozen=True, slots=True)
class Budget:
    """What one step may hold: query tokens, and batch rows of at least one token each."""

    tokens: int
    rows: int


class Room:
    """Blocks and rows that the admitted requests leave, from all there are. A prefix is counted once.

    A request that is not running must leave a block for each admitted request above it to grow into. What an admitted
    request takes is at least as much as it spares others, so whoever did not fit once does not fit later.
    """

    def __init__(self, num_blocks: int, rows: int, running: Collection[Request]) -> None:
        self._blocks = num_blocks
        self._rows = rows
        self._running = running
        self._still_running = len(running)  # that the walk has not met
        self._num_admitted = 0
        self._counted: set[Prefix] = set()

    @property
    def largest(self) -> int:
        """Blocks of the largest request that still fits and is not running."""
        return self._blocks - self._num_admitted

    def fits(self, needs: Needs) -> bool:
        """Return whether one of these needs still fits, of a request that is not running."""
        largest = self.largest
        return largest > 0 and any(self._blocks_for(prefix, blocks) <= largest for prefix, blocks in needs)

    @property
    def has_rows(self) -> bool:
        """Whether the batch has a row for one more request."""
        return self._num_admitted < self._rows

    @property
    def is_full(self) -> bool:
        """Whether no request below fits."""
        return not self.has_rows or not self._blocks or (self.largest <= 0 and not self._still_running)

    def admits(self, request: Request) -> bool:
        """Return whether a request fits, and take what it needs."""
        is_running = request in self._running
        self._still_running -= is_running
        prefix = request.session.prefix
        blocks = request.num_blocks if prefix is None else self._blocks_for(prefix, request.own_blocks)
        if blocks > (self._blocks if is_running else self.largest):
            return False
        self._blocks -= blocks
        self._num_admitted += 1
        if prefix is not None and prefix not in self._counted:
            self._counted.update(prefix.path_up)
        return True

    def _blocks_for(self, prefix: Prefix | None, blocks: int) -> int:
        """Return ``blocks`` and those of the prefixes that no admitted request stands on."""
        while prefix is not None and prefix not in self._counted:
            blocks += prefix.num_blocks
            prefix = prefix.prefix
        return blocks


@dataclass(slots=True)
class Admission:
    """A step's requests, best rank first. ``first_blocked`` is the best rank that does not fit.

    ``backfilled`` are the admitted that rank below it; ``others`` hold KV and are not admitted.
    """

    admitted: list[Request] = field(default_factory=list)
    first_blocked: Request | None = None
    backfilled: set[Request] = field(default_factory=set)
    others: list[Request] = field(default_factory=list)


def admit(ranks: Iterator[Request], room: Room, holders: Collection[Request]) -> Admission:
    """Walk the ranks and admit every request that fits into what those above it leave.

    The ranks are lazy: once ``room`` is full, they go on only with the ``holders`` of KV.
    """
    admission = Admission()
    for request in ranks:
        if not room.is_full and room.admits(request):
            admission.admitted.append(request)
            if admission.first_blocked is not None:
                admission.backfilled.add(request)
            continue
        if request in holders:
            admission.others.append(request)
        if not room.is_full and admission.first_blocked is None:
            admission.first_blocked = request
    return admission


class Claim:
    """The claim of the first blocked request: passed over for ``timeout_s`` in all, it ranks first until it runs.

    Background work has no claim: it gets only what all other work leaves.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._request: Request | None = None
        self._passed_over_s = 0.0
        self._noted_s = 0.0

    def note(self, admission: Admission, now: float, *, has_paused: bool = False) -> None:
        """Take in a step's admission. A claim that is due stays until its request runs, and is used up then.

        ``has_paused``: since the last one nobody ran, so nobody was passed over.
        """
        blocked = admission.first_blocked
        if blocked is not None and blocked.spec.background:
            blocked = None
        if self._request is not None and self._request.state in (State.RUNNING, State.FINISHED):
            self._request = None
        if self.due() is None and blocked is not self._request:
            self._request, self._passed_over_s = blocked, 0.0
        elif admission.backfilled and not has_paused:
            self._passed_over_s += now - self._noted_s
        self._noted_s = now

    def due(self) -> Request | None:
        """Return the request that ranks first now."""
        if self._request is None or self._request.state is State.FINISHED:
            return None
        return self._request if self._passed_over_s >= self._timeout_s else None
