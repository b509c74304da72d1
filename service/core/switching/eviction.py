"""Forced context switches, for tests and for looking at what a switch costs: ``--debug-preempt-every``.

Whoever has drawn N tokens since it got its place is preempted and driven off the device completely, by the preset's own
means, before it may come back. Nothing in an answer may tell that it happened.
"""

from service.core.state.ledger import Ledger
from service.core.state.requests import Request, State
from service.core.switching.host_room import HostRoom
from service.core.switching.poison import Poison
from service.core.switching.swaps import Swaps


class Eviction:
    """Requests on their way off the device: it ``holds`` them back from returning until they are off."""

    def __init__(self, ledger: Ledger, swaps: Swaps, poison: Poison, every: int) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._swaps = swaps
        self._poison = poison
        self._every = every
        self._leaving: dict[Request, None] = {}

    def holds(self, request: Request) -> bool:
        """Whether a request is not off the device yet."""
        return request in self._leaving

    def advance(self, now: float) -> None:
        """Preempt those whose time is up, and drive on those who are leaving."""
        for request in self._ledger.slots.running:
            drawn = request.num_drawn - request.answered_before
            if drawn >= self._every and not request.is_spent:
                self._ledger.preempt(request, "debug", now)
                self._leaving[request] = None
        self._leaving = {request: None for request in self._leaving if self._is_still_here(request)}
        self._poison.look()  # before anybody can get the same blocks again

    def _is_still_here(self, request: Request) -> bool:
        """Do the next thing to get a request off the device; False when it is off, or has ended."""
        sequence = request.sequence
        if request.state is not State.PREEMPTED:
            return False
        if self._memory.pending(sequence) is None:
            self._memory.reclaim_device(sequence, self._memory.device.used(sequence))
            if self._memory.device.used(sequence):
                room = HostRoom(self._ledger, list(self._ledger.live.values()))
                if reason := self._swaps.start_out(request.session, room, request):
                    self._ledger.drop_kv(request.session, 0, reason)
                    self._swaps.forget_failures(sequence)
        return self._memory.device.used(sequence) > 0
