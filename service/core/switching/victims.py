"""Victims: idle sessions and requests that are not admitted give device blocks and slots to admitted requests.

Blocks come from idle sessions, longest silent first; then from live requests that are not running, lowest rank first;
then from running ones, lowest rank first. A victim gives its last blocks, and no more than are needed. Blocks whose KV
is on the host are free at once. Others are swapped out first and count as *arriving* meanwhile, so that there is no
second victim for the same need. One copy is for all that the admitted lack, and a few more, so that a batch which grows
by a block a step does not need a copy a step. KV that cannot be copied is dropped, tail first and only as
much as needed. An admitted request is never a victim.
"""

from collections import deque
from collections.abc import Sequence

from service.core.state.ledger import Ledger
from service.core.state.requests import Request, State
from service.core.state.sessions import Session
from service.core.switching.host_room import HostVictims
from service.core.switching.swaps import SwapManager

SLACK_BLOCKS = 8  # that a copy takes at most beyond what is lacking
SLACK_SHARE = 16  # and at most this part of the pool


class Victims:
    """One step's victims: the ``others``, live requests that run or hold KV. Both lists are best rank first."""

    def __init__(
        self,
        ledger: Ledger,
        swaps: SwapManager,
        admitted: Sequence[Request],
        others: Sequence[Request],
        now: float,
    ) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._swaps = swaps
        self._host_victims = HostVictims(ledger, [*admitted, *others])
        self._now = now
        self._admitted = admitted
        self._running = [request for request in others if request.state is State.RUNNING]
        self._not_running = [request for request in others if self._is_parked(request)]
        self._idle: deque[Session] | None = None  # None until blocks are needed
        self._victim: tuple[Session, Request | None] | None = None  # the current one
        self._slack = min(SLACK_BLOCKS, ledger.memory.device.num_blocks // SLACK_SHARE)
        self._promised = 0  # blocks for admitted requests that wait
        self._arriving = self._count_arriving({request.sequence for request in admitted})

    def obtain_blocks(self, request: Request) -> bool:
        """Take the device blocks that an admitted request lacks from victims. False: they are not all available yet."""
        missing = self._missing(request)
        if missing == 0:  # it may run whatever is promised to others
            return True
        self._take_blocks(missing)
        if missing <= self._available:
            return True
        self.promise_blocks(request)
        return False

    def promise_blocks(self, request: Request) -> None:
        """Keep the blocks that an admitted request still lacks from all requests after it."""
        self._promised += self._missing(request)

    def copy_ahead(self, num_blocks: int) -> None:
        """Start to copy out ``num_blocks`` blocks of victims that do not run, for the next needs of running requests.

        No blocks are taken before they are needed, so a victim that resumes before that has lost nothing.
        """
        while num_blocks > self._available + self._arriving:
            victim = self._victim or self._next_victim(spare_running=True)
            if victim is None:
                return
            self._copy_out(*victim, num_blocks - self._available - self._arriving)
            self._victim = None

    def take_slot(self) -> None:
        """Preempt the running request of lowest rank that is not admitted."""
        self._ledger.preempt(self._running.pop(), "slot", self._now)

    @property
    def num_running(self) -> int:
        """Number of requests that are not admitted and still hold a slot."""
        return len(self._running)

    def still_running(self) -> list[Request]:
        """Return the running ones whose next step needs no new block, best rank first. Preempt the others."""
        going_on = []
        for request in self._running:
            if self._missing(request) == 0:
                going_on.append(request)
            else:
                self._ledger.preempt(request, "growth", self._now)
        return going_on

    @property
    def _available(self) -> int:
        return self._memory.device.num_available - self._promised

    def _missing(self, request: Request) -> int:
        return max(0, request.num_blocks - self._memory.device.used(request.sequence))

    def _count_arriving(self, admitted: set[int]) -> int:
        """Count the device blocks of others than the admitted that become available when copies in flight end."""
        leaving = {ticket.node for ticket in self._memory.tickets} - admitted
        known = [sequence for sequence in leaving if sequence in self._memory.device]
        return self._memory.num_held_by_tickets + sum(map(self._memory.arriving_device, known))

    def _is_parked(self, request: Request) -> bool:
        return request.state is not State.RUNNING and self._memory.device.used(request.sequence) > 0

    def _lacking(self) -> int:
        """Count the blocks that the admitted lack in all, beyond those that are available or arriving."""
        return sum(map(self._missing, self._admitted)) - self._memory.device.num_available - self._arriving

    def _take_blocks(self, num_blocks: int) -> None:
        """Take from victims until ``num_blocks`` are available or arriving, or no victim is left."""
        while (short := num_blocks - self._available - self._arriving) > 0:
            if self._victim is None:
                self._victim = self._next_victim()
            if self._victim is None:
                return
            if not self._take_from(*self._victim, short):
                self._victim = None

    def _take_from(self, session: Session, request: Request | None, short: int) -> bool:
        """Take up to ``short`` blocks from a victim, now or when a copy ends. False: it has no more to give."""
        sequence = session.sequence
        if self._memory.pending(sequence) is not None:
            return False  # counted as arriving
        if self._memory.reclaim_device(sequence, short):
            return True
        if not self._memory.device.used(sequence):
            self._ledger.sessions.left_device(session)
            return False
        to_copy = max(short, self._lacking()) + self._slack
        if reason := self._swaps.start_swap_out(session, self._host_victims, request, to_copy):
            self._ledger.drop_tail(session, short, reason)
            self._swaps.forget_failures(sequence)
            return sequence in self._memory.device
        self._arriving += self._memory.arriving_device(sequence)
        return False

    def _copy_out(self, session: Session, request: Request | None, short: int) -> None:
        """Copy ``short`` of a victim's blocks out if that is possible, and count what it could give as arriving."""
        sequence = session.sequence
        if self._memory.pending(sequence) is not None:
            return  # counted as arriving
        used, clean = self._memory.device.used(sequence), self._memory.reclaimable_device(sequence)
        if not used:
            self._ledger.sessions.left_device(session)
        elif clean >= min(short, used) or self._swaps.start_swap_out(
            session, self._host_victims, request, short + self._slack
        ):
            self._arriving += clean
        else:
            self._arriving += self._memory.arriving_device(sequence)

    def _next_victim(self, *, spare_running: bool = False) -> tuple[Session, Request | None] | None:
        if self._idle is None:
            self._idle = deque(self._ledger.sessions.idle_on_device)
        while self._idle:
            session = self._idle.popleft()
            if session.sequence in self._memory.device:  # else it was dropped for its host blocks
                return session, None
        if not self._not_running and self._running and not spare_running:
            victim = self._running.pop()
            self._ledger.preempt(victim, "room", self._now)
            self._not_running.append(victim)
        if not self._not_running:
            return None
        request = self._not_running.pop()
        return request.session, request
