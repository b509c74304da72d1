"""Batch slots: which running request has which."""

from heapq import heapify, heappop, heappush

from service.core.state.requests import Request


class SlotTable:
    """The batch's ``num_slots`` slots. Always true: a slot is free or has one holder, a request that knows its slot."""

    def __init__(self, num_slots: int) -> None:
        self._free = list(range(num_slots))
        heapify(self._free)  # lowest first: full batches stay dense
        self._holders: dict[int, Request] = {}

    @property
    def num_free(self) -> int:
        """Slots without a holder."""
        return len(self._free)

    @property
    def running(self) -> list[Request]:
        """The requests that hold a slot."""
        return list(self._holders.values())

    def holder(self, slot: int) -> Request:
        """Return the request that holds a slot that is not free."""
        return self._holders[slot]

    def take(self, request: Request) -> int:
        """Give a request the lowest free slot."""
        slot = heappop(self._free)
        self._holders[slot] = request
        request.slot = slot
        return slot

    def leave(self, request: Request) -> None:
        """Free a request's slot."""
        assert request.slot is not None
        del self._holders[request.slot]
        heappush(self._free, request.slot)
        request.slot = None

    def check(self) -> None:
        """Raise AssertionError if the invariant is broken."""
        assert not self._holders.keys() & set(self._free)
        assert all(request.slot == slot for slot, request in self._holders.items())
