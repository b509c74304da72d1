"""Which requests have waited too long for their first step."""

from collections import OrderedDict


class Deadlines:
    """The waiting requests in the order of arrival, which is that of their deadlines: finding those due is O(due).

    ``timeout_s`` is how long each may wait; with None none is kept. A request that starts is removed. One that ends
    while it waits may stay until its deadline, so the caller asks whether it is still there.
    """

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self._arrivals: OrderedDict[str, float] = OrderedDict()  # by request id

    def add(self, request_id: str, now: float) -> None:
        """Note an arrival."""
        if self.timeout_s is not None:
            self._arrivals[request_id] = now
            self._arrivals.move_to_end(request_id)  # an id may be used again

    def remove(self, request_id: str) -> None:
        """Forget a request, if it is known."""
        self._arrivals.pop(request_id, None)

    def due(self, now: float) -> list[str]:
        """Remove and return the requests whose deadlines have passed."""
        due = []
        while (next_s := self.next_s()) is not None and next_s <= now:
            due.append(self._arrivals.popitem(last=False)[0])
        return due

    def next_s(self) -> float | None:
        """Return the earliest deadline."""
        if self.timeout_s is None or not self._arrivals:
            return None
        return next(iter(self._arrivals.values())) + self.timeout_s
