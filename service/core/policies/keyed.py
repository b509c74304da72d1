"""The base of policies that rank every request by a key of its own."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from heapq import merge
from typing import Any, ClassVar

from service.core.admission import Admission, Room
from service.core.policies.policy import Delays
from service.core.state.requests import Request
from service.core.state.waiting import NeedsQueue


class KeyedPolicy(ABC):
    """Lower keys go first, equal ones by order of arrival; background work goes last."""

    promotes: ClassVar[bool] = True

    def __init__(self) -> None:
        self._queue: NeedsQueue[Request] = NeedsQueue()

    @abstractmethod
    def key(self, request: Request) -> Any:
        """Return the key of a request, which stays the same until `update`."""

    def update(self, holders: Collection[Request], step: int) -> bool:
        """Return whether keys are others from this step on."""
        return False

    def add(self, request: Request) -> None:
        """Add a request to the queue."""
        self._queue.add(request, request.needs, self._key(request), request.number)

    def discard(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""
        self._queue.discard(request)

    def charge(self, request: Request, service: float) -> None:  # noqa: B027 - a policy may have an account
        """Charge nobody."""

    def rank(self, holders: Collection[Request], now: float, step: int) -> list[Request]:
        """Return the holders by key. O(requests) where keys change, else O(holders)."""
        if self.update(holders, step):
            self._queue.rekey(self._key)
        return sorted(holders, key=self._order)

    def walk(self, first: Collection[Request], rest: list[Request], room: Room) -> Iterator[Request]:
        """Yield the rest of the holders and the queue by key."""
        return merge(rest, self._queue.walk(room), key=self._order)

    def end(self, admission: Admission, room: Room, now: float) -> None:  # noqa: B027
        """Note nothing."""

    def fairness(self, delays: Delays) -> tuple[float, float, float]:
        """Promise nothing."""
        return 0.0, 0.0, 0.0

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        self._queue.check()

    def _key(self, request: Request) -> Any:
        return request.spec.background, self.key(request)

    def _order(self, request: Request) -> Any:
        return request.spec.background, self.key(request), request.number
