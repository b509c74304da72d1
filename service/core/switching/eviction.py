"""Forced context switches, for tests and for measuring what a switch costs: ``--debug-preempt-every``.

A request that has drawn N tokens since it got its slot is preempted and evicted from the device completely, by the
preset's own means, before it may resume; so are the prefixes that it stands on and no running request does. Its answer
must not change.
"""

from service.core.state.ledger import Ledger
from service.core.state.owners import Owner, Prefix
from service.core.state.requests import Request, State
from service.core.switching.host_room import HostVictims
from service.core.switching.poison import Poison
from service.core.switching.swaps import SwapManager


class Eviction:
    """Requests that are leaving the device. They are held back from resuming until they have no device blocks."""

    def __init__(self, ledger: Ledger, swaps: SwapManager, poison: Poison, every: int) -> None:
        self._ledger = ledger
        self._memory = ledger.memory
        self._swaps = swaps
        self._poison = poison
        self._every = every
        self._leaving: dict[Request, list[Owner]] = {}  # with what has not left yet

    def holds_back(self, request: Request) -> bool:
        """Return whether a request is still leaving the device."""
        return request in self._leaving

    def advance(self, now: float) -> None:
        """Preempt the requests that have drawn enough tokens, and go on evicting those that are leaving."""
        for request in self._ledger.slots.running:
            drawn = request.num_drawn - request.answered_before_slot
            if drawn >= self._every and not request.is_spent:
                self._ledger.preempt(request, "debug", now)
                self._leaving[request] = [request.session, *request.session.path_up]
        for request, owners in list(self._leaving.items()):
            self._leaving[request] = [owner for owner in owners if self._is_leaving(owner, request)]
            if not self._leaving[request]:
                del self._leaving[request]
        self._poison.look()  # before the same blocks can get an owner again

    def _is_leaving(self, owner: Owner, request: Request) -> bool:
        """Take the next step of an eviction. False when the owner has left the device once, or must stay."""
        number = owner.number
        if request.state is not State.PREEMPTED or number not in self._memory.device:
            return False
        if isinstance(owner, Prefix) and self._ledger.is_running_on(number):
            return False
        if self._memory.pending(number) is None:
            self._memory.reclaim_device(number, self._memory.device.used(number))
            if self._memory.device.used(number):
                victims = HostVictims(self._ledger, list(self._ledger.holders))
                if reason := self._swaps.start_swap_out(owner, victims, request):
                    self._ledger.drop_kv(owner, owner.start, reason)
                    self._swaps.forget_failures(number)
        return number in self._memory.device and self._memory.device.used(number) > 0
