"""What those above the cut take from those below it.

KV goes in this order: idle sessions, longest silent first; live requests that are not running, lowest rank first;
running ones, lowest rank first. It is given up tail first and only as much as is needed, since what stays need not be
computed again. Nobody above the cut is ever touched.
"""

from collections import deque
from collections.abc import Sequence

from service.core.ledger import Ledger
from service.core.requests import Request, State


class Displacement:
    """One step's losers, best rank first, and what is taken from them."""

    def __init__(self, ledger: Ledger, losers: Sequence[Request], now: float) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._now = now
        self._running = [request for request in losers if request.state is State.RUNNING]
        self._parked = deque(request for request in losers if request.state is not State.RUNNING)

    def yield_slot(self) -> None:
        """The lowest running loser leaves the batch."""
        self._preempt_lowest("slot")

    def reserve(self, request: Request) -> None:
        """Device room for all tokens of a request above the cut."""
        missing = self._memory.device_blocks_for(request.num_tokens) - self._memory.device.used(request.sequence)
        while (shortage := missing - self._memory.device.num_available) > 0:
            self._free(shortage)
        self._memory.reserve(request.sequence, request.num_tokens)

    def still_running(self) -> list[Request]:
        """Losers that go on, best rank first: those whose next step needs no new block. The others are preempted."""
        going_on = []
        for request in self._running:
            if self._memory.device_blocks_for(request.num_tokens) <= self._memory.device.used(request.sequence):
                going_on.append(request)
            else:
                self._ledger.preempt(request, "growth", self._now)
        return going_on

    def _free(self, num_blocks: int) -> None:
        idle = self._ledger.sessions.oldest_idle()
        if idle is None:
            self._ledger.reclaim(self._lowest_with_kv().session, num_blocks)
            return
        self._ledger.reclaim(idle, num_blocks)
        if not self._memory.device.used(idle.sequence):
            self._ledger.drop_session(idle, "room")

    def _lowest_with_kv(self) -> Request:
        while self._parked and not self._memory.device.used(self._parked[-1].sequence):
            self._parked.pop()
        if not self._parked:
            self._preempt_lowest("room")
        return self._parked[-1]

    def _preempt_lowest(self, reason: str) -> None:
        victim = self._running.pop()
        self._ledger.preempt(victim, reason, self._now)
        self._parked.appendleft(victim)  # it has run until now: last of the parked to give up KV
