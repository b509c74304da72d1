"""What those above the cut take from those below it.

Device blocks come from: idle sessions, longest silent first; live requests that are not running, lowest rank first;
running ones, lowest rank first. Blocks whose KV is on the host are free at once; others are copied out first, and count
as *arriving* meanwhile, so that nobody else is driven out for the same need. What cannot be copied is dropped, tail
first and only as much as is needed. Nobody above the cut is ever touched.
"""

from collections import deque
from collections.abc import Sequence

from service.core.state.ledger import Ledger
from service.core.state.requests import Request, State
from service.core.state.sessions import Session
from service.core.switching.host_room import HostRoom
from service.core.switching.swaps import Swaps


class Displacement:
    """One step's losers, and what is taken from them for the ``kept``; both best rank first."""

    def __init__(
        self, ledger: Ledger, swaps: Swaps, kept: Sequence[Request], losers: Sequence[Request], now: float
    ) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._swaps = swaps
        self._host_room = HostRoom(ledger, [*kept, *losers])
        self._now = now
        self._running = [request for request in losers if request.state is State.RUNNING]
        self._parked = [request for request in losers if request.state is not State.RUNNING]
        self._idle: deque[Session] | None = None  # once somebody asked
        self._victim: tuple[Session, Request | None] | None = None
        self._promised = 0  # blocks for those above the cut who wait
        self._arriving = self._count_arriving({request.sequence for request in kept})

    def obtain(self, request: Request) -> bool:
        """Whether there is device room now for all tokens of a request above the cut. If not, it is on its way."""
        missing = self._missing(request)
        if missing == 0:  # whatever others wait for
            return True
        self._make_room(missing)
        if missing <= self._available:
            return True
        self.promise(request)
        return False

    def promise(self, request: Request) -> None:
        """Keep the room that a request above the cut still lacks from everybody after it."""
        self._promised += self._missing(request)

    def prepare(self, num_blocks: int) -> None:
        """Start to copy out what running requests may need next, from those who do not run.

        Nothing is taken before the need, so whoever returns until then has lost nothing.
        """
        while num_blocks > self._available + self._arriving:
            victim = self._victim or self._next_victim(spare_running=True)
            if victim is None:
                return
            self._copy_ahead(*victim)
            self._victim = None

    def yield_slot(self) -> None:
        """The lowest running loser leaves the batch."""
        self._ledger.preempt(self._running.pop(), "slot", self._now)

    @property
    def num_running(self) -> int:
        """Losers that still hold a slot."""
        return len(self._running)

    def still_running(self) -> list[Request]:
        """Losers that go on, best rank first: those whose next step needs no new block. The others are preempted."""
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
        needed = self._memory.device_blocks_for(request.num_tokens)
        return max(0, needed - self._memory.device.used(request.sequence))

    def _count_arriving(self, kept: set[int]) -> int:
        """Blocks of copies that nobody above the cut waits for: theirs to take when the copy ends."""
        leaving = {ticket.sequence for ticket in self._memory.tickets} - kept
        known = [sequence for sequence in leaving if sequence in self._memory.device]
        return self._memory.num_let_go + sum(self._memory.device.used(sequence) for sequence in known)

    def _make_room(self, num_blocks: int) -> None:
        """Take from victims until ``num_blocks`` are available or on their way, or nobody is left to take from."""
        while (short := num_blocks - self._available - self._arriving) > 0:
            if self._victim is None:
                self._victim = self._next_victim()
            if self._victim is None:
                return
            if not self._take(*self._victim, short):
                self._victim = None

    def _take(self, session: Session, request: Request | None, short: int) -> bool:
        """Up to ``short`` blocks, now or later. False: nothing more is to be had from this one."""
        sequence = session.sequence
        if self._memory.pending(sequence) is not None:
            return False  # counted as arriving
        if self._memory.reclaim_device(sequence, short):
            return True
        if not self._memory.device.used(sequence):
            self._ledger.sessions.left_device(session)
            return False
        if reason := self._swaps.start_out(session, self._host_room, request):
            self._ledger.drop_tail(session, short, reason)
            self._swaps.forget_failures(sequence)
            return sequence in self._memory.device
        self._arriving += self._memory.device.used(sequence)
        return False

    def _copy_ahead(self, session: Session, request: Request | None) -> None:
        """Have a victim's blocks copied, where that is possible, and count what it could give."""
        sequence = session.sequence
        if self._memory.pending(sequence) is not None:
            return  # counted as arriving
        used, clean = self._memory.device.used(sequence), self._memory.reclaimable_device(sequence)
        if not used:
            self._ledger.sessions.left_device(session)
        elif clean == used or self._swaps.start_out(session, self._host_room, request):
            self._arriving += clean
        else:
            self._arriving += used

    def _next_victim(self, *, spare_running: bool = False) -> tuple[Session, Request | None] | None:
        if self._idle is None:
            self._idle = deque(self._ledger.sessions.idle_on_device)
        while self._idle:
            session = self._idle.popleft()
            if session.sequence in self._memory.device:  # else host room was made of it
                return session, None
        if not self._parked and self._running and not spare_running:
            victim = self._running.pop()
            self._ledger.preempt(victim, "room", self._now)
            self._parked.append(victim)
        if not self._parked:
            return None
        request = self._parked.pop()
        return request.session, request
