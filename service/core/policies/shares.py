"""Shares: the counters of a virtual token counter (VTC, arXiv 2401.00588) for tenants, or for the users of one.

A share's *counter* is the service that it got, over its weight. A share is *unmet* while a request of its is not
running. The rank of its request number i is ``counter + h (i / weight - [running])``: who got less goes first, and a
running request gives way only to a share that is behind by the hysteresis h. A share that becomes unmet is lifted to
the *level*, the least counter of those that stayed unmet, so that nobody saves up service while away; if nobody
stayed, to the greatest counter. Counters at or below the level are not worth keeping: whoever returns is lifted.

A share that does not fit while others backfill is *excluded* from level and gap until its requests run or it has caught
up. Shares without holders of KV are *idle*: they are indexed by the least needs of their requests, and idle shares of
equal needs are excluded together, so a step looks at none of them one by one. docs/fairness.md derives the bound of the
gap.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from functools import partial
from heapq import heappop, heappush, merge
from operator import attrgetter
from typing import Protocol

from service.core.state.requests import Needs, Request, State
from service.core.state.waiting import NeedsQueue, Room, least

Entry = tuple[float, int, int, Request]  # key, number of its share, index in it: no two entries are equal in all three


class Part(Protocol):
    """What belongs to one share: a user's requests, or a tenant's users."""

    running: list[Request]  # by order of arrival
    has_preempted: bool  # whether a holder is not running

    @property
    def least(self) -> Needs:
        """The needs of which at least one fits if a request fits that is not running."""

    @property
    def is_unmet(self) -> bool:
        """Whether a request is not running."""

    def add(self, request: Request) -> None:
        """Queue a request."""

    def discard(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""

    def charge(self, request: Request, service: float) -> None:
        """Count service."""

    def begin(self, holders: list[Request]) -> None:
        """Begin a plan."""

    def walk(self, room: Room) -> Iterator[Request]:
        """Yield the requests that are not running, by rank; once ``room`` is full, only holders."""


class UserRequests:
    """The requests of one user, by order of arrival."""

    def __init__(self) -> None:
        self.running: list[Request] = []
        self.has_preempted = False
        self._preempted: list[Request] = []
        self._queue: NeedsQueue[Request] = NeedsQueue()

    @property
    def least(self) -> Needs:
        """The needs of which at least one fits if a request fits that is not running."""
        return least([self._queue.least, *(request.needs for request in self._preempted)])

    @property
    def is_unmet(self) -> bool:
        """Whether a request is not running."""
        return bool(self._queue) or bool(self._preempted)

    def add(self, request: Request) -> None:
        """Queue a request."""
        self._queue.add(request, request.needs, None, request.number)

    def discard(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""
        self._queue.discard(request)

    def charge(self, request: Request, service: float) -> None:
        """Charge nobody: requests of one user go by order of arrival."""

    def begin(self, holders: list[Request]) -> None:
        """Begin a plan."""
        self.running, self._preempted = _by_state(holders)
        self.has_preempted = bool(self._preempted)

    def walk(self, room: Room) -> Iterator[Request]:
        """Yield the requests that are not running, by rank."""
        if not self._preempted:
            return self._queue.walk(room)
        if not self._queue or room.is_full:
            return iter(self._preempted)
        return merge(self._preempted, self._queue.walk(room), key=attrgetter("number"))


class Share:
    """A tenant or a user."""

    __slots__ = ("counter", "is_excluded", "is_unmet", "name", "number", "part", "weight")

    def __init__(self, name: str, number: int, weight: float, part: Part) -> None:
        self.name = name
        self.number = number  # of its arrival, for ties
        self.weight = weight
        self.part = part
        self.counter = 0.0
        self.is_unmet = False  # when the last plan began
        self.is_excluded = False


class Shares:
    """Shares by name, and their requests.

    Always true: a share is one of *active* (it has holders), *changed* (since the plan began), *idle* (it has only
    queued requests, and is unmet) and *departed* (it has no request, and its counter is above the level).
    """

    def __init__(
        self,
        name_of: Callable[[Request], str],
        weight_of: Callable[[Request], float],
        make_part: Callable[[], Part],
        spread: float,
    ) -> None:
        self.running: list[Request] = []
        self.has_preempted = False
        self.level = 0.0
        self._name_of = name_of
        self._weight_of = weight_of
        self._make_part = make_part
        self._spread = spread
        self._shares: dict[str, Share] = {}
        self._weights: Counter[float] = Counter()
        self._active: dict[Share, None] = {}
        self._changed: dict[Share, None] = {}
        self._idle: NeedsQueue[Share] = NeedsQueue()
        self._departed: list[tuple[float, int, Share]] = []  # a heap, in which returned ones may remain
        self._greatest_departed = 0.0
        self._excluded_needs: set[Needs] = set()
        self._next_number = 0
        self._begun: list[tuple[Request, State]] | None = []  # the holders of the last plan; None: queues have changed

    @property
    def least(self) -> Needs:
        """The needs of which at least one fits if a request fits that is not running."""
        return least([self._idle.least, *(share.part.least for share in (*self._changed, *self._active))])

    @property
    def is_unmet(self) -> bool:
        """Whether a request is not running."""
        return bool(self._idle) or any(share.part.is_unmet for share in (*self._active, *self._changed))

    @property
    def is_empty(self) -> bool:
        """Whether no share has a request."""
        return not (self._idle or self._active or self._changed)

    @property
    def has_excluded(self) -> bool:
        """Whether an unmet share is excluded."""
        return bool(self._excluded_needs) or any(share.is_excluded and share.is_unmet for share in self._active)

    @property
    def least_weight(self) -> float:
        """The least weight of the shares that are known."""
        return min(self._weights, default=1.0)

    def __len__(self) -> int:
        """Return the number of shares that are known."""
        return len(self._shares)

    def add(self, request: Request) -> None:
        """Queue a request."""
        share = self._share(request)
        share.part.add(request)
        self._change(share)

    def discard(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""
        if share := self._shares.get(self._name_of(request)):
            share.part.discard(request)
            self._change(share)

    def charge(self, request: Request, service: float) -> None:
        """Count service for the share of a request, which is a holder."""
        share = self._shares.get(self._name_of(request)) or self._share(request)
        if share not in self._active:
            self._change(share)
        share.counter += service / share.weight
        share.part.charge(request, service)

    def begin(self, holders: list[Request]) -> None:
        """Begin a plan: find out who is unmet, and lift those who became so."""
        begun = [(request, request.state) for request in holders]
        if begun != self._begun:
            self._begun = begun
            self._begin(holders)

    def walk(self, room: Room) -> Iterator[Request]:
        """Yield the requests that are not running, by rank; once ``room`` is full, only holders."""
        return (entry[-1] for entry in self._waiting(room))

    def walk_all(self, room: Room, hysteresis: float) -> Iterator[Request]:
        """Yield those that run too, which rank better by the hysteresis."""
        return (entry[-1] for entry in merge(self._running(hysteresis), self._waiting(room)))

    def end(self, served: Collection[str], room: Room | None) -> None:
        """End a plan to which requests of the shares ``served`` were admitted.

        ``room`` is what these left, if blocked ones were passed over. Shares of whose requests none fits into it, and
        which rank above one that was served, are excluded.
        """
        idle = self._idle.ends
        self._excluded_needs &= idle.keys()
        if room is None:
            return
        last = max((self._shares[name].counter for name in served if name in self._shares), default=self.level)
        self._excluded_needs |= {needs for needs, (first, _) in idle.items() if first < last and not room.fits(needs)}
        for share in (*self._active, *self._changed):
            if share.is_unmet and share.name not in served and share.counter < last:
                share.is_excluded |= not room.fits(share.part.least)

    def gap(self) -> float:
        """Return the greatest difference of two counters of those unmet, and not excluded, when the plan began."""
        counters = [share.counter for share in self._active if share.is_unmet and not share.is_excluded]
        for needs, ends in self._idle.ends.items():
            if needs not in self._excluded_needs:
                counters += ends
        return max(counters) - min(counters) if counters else 0.0

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        self._idle.check()
        assert not self._active.keys() & set(self._idle)
        assert all(share.part.least == self._idle.needs_of(share) for share in self._idle)
        assert all(self._shares[share.name] is share for share in (*self._active, *self._changed, *self._idle))
        live = {*self._active, *self._changed, *self._idle}
        assert all(share.counter > self.level for share in self._shares.values() if share not in live)
        assert Counter(share.weight for share in self._shares.values()) == self._weights

    def _running(self, hysteresis: float) -> list[Entry]:
        """Return the requests that run, with their keys."""
        entries: list[Entry] = []
        for share in self._active:
            first, step = share.counter - hysteresis, self._spread / share.weight
            entries += [(first + i * step, share.number, i, request) for i, request in enumerate(share.part.running)]
        return sorted(entries)

    def _waiting(self, room: Room) -> Iterator[Entry]:
        """Yield the requests that do not run, with their keys. An idle share is looked at when it is its turn."""
        heap: list[tuple[float, int, int, Share, Iterator[Request]]] = []

        def push(share: Share, index: int, requests: Iterator[Request]) -> None:
            heappush(heap, (share.counter + self._spread * index / share.weight, share.number, index, share, requests))

        for share in self._active:
            if share.is_unmet and (share.part.has_preempted or not room.is_full):
                push(share, len(share.part.running), share.part.walk(room))
        idle = self._idle.walk(room)
        head = next(idle, None)
        while heap or head is not None:
            if head is not None and (not heap or (head.counter, head.number) < heap[0]):
                push(head, 0, head.part.walk(room))
                head = next(idle, None)
                continue
            key, number, index, share, requests = heappop(heap)
            if (request := next(requests, None)) is not None:
                fits = room.fits(request.needs)
                yield key, number, index, request
                push(share, index + fits, requests)

    def _begin(self, holders: list[Request]) -> None:
        self.running, preempted = _by_state(holders)
        self.has_preempted = bool(preempted)
        groups: dict[Share, list[Request]] = {}
        for request in holders:
            groups.setdefault(self._share(request), []).append(request)
        looked_at = self._active | self._changed | dict.fromkeys(groups)
        for share in looked_at:
            self._leave_idle(share)
        self._active, self._changed = dict.fromkeys(groups), {}
        stayed: list[Share] = []
        returned: list[Share] = []
        for share in looked_at:
            share.part.begin(groups.get(share, []))
            was_unmet, share.is_unmet = share.is_unmet, share.part.is_unmet
            if share.is_unmet:
                (stayed if was_unmet else returned).append(share)
        self._lift(stayed, returned)
        for share in looked_at:
            if share not in groups:
                (self._enter_idle if share.is_unmet else self._depart)(share)
        self._forget()

    def _share(self, request: Request) -> Share:
        name, weight = self._name_of(request), self._weight_of(request)
        share = self._shares.get(name)
        if share is None:
            share = self._shares[name] = Share(name, self._next_number, weight, self._make_part())
            self._next_number += 1
            self._weights[weight] += 1
        elif share.weight != weight:  # the key file has changed
            self._uncount_weight(share)
            share.weight = weight
            self._weights[weight] += 1
        return share

    def _change(self, share: Share) -> None:
        self._begun = None
        self._leave_idle(share)
        if share not in self._active:
            self._changed[share] = None

    def _leave_idle(self, share: Share) -> None:
        if self._idle.discard(share) in self._excluded_needs:
            share.is_excluded = True

    def _enter_idle(self, share: Share) -> None:
        needs = share.part.least
        self._idle.add(share, needs, share.counter, share.number)
        if share.is_excluded:
            self._excluded_needs.add(needs)

    def _lift(self, stayed: list[Share], returned: list[Share]) -> None:
        counters = [share.counter for share in stayed if not share.is_excluded]
        counters += [first for needs, (first, _) in self._idle.ends.items() if needs not in self._excluded_needs]
        if counters:
            self.level = max(self.level, min(counters))
        else:
            self.level = max([self.level, self._greatest_departed, *(share.counter for share in self._active)])
        for share in returned:
            share.counter = max(share.counter, self.level)
        for share in (*stayed, *returned):
            share.is_excluded = share.is_excluded and share.counter < self.level

    def _depart(self, share: Share) -> None:
        share.is_excluded = False
        heappush(self._departed, (share.counter, share.number, share))
        self._greatest_departed = max(self._greatest_departed, share.counter)

    def _forget(self) -> None:
        """Forget those that left and are not above the level."""
        while self._departed and self._departed[0][0] <= self.level:
            counter, _, share = heappop(self._departed)
            is_live = share in self._active or share in self._changed or share in self._idle
            if not is_live and counter == share.counter and self._shares.get(share.name) is share:
                del self._shares[share.name]
                self._uncount_weight(share)

    def _uncount_weight(self, share: Share) -> None:
        self._weights[share.weight] -= 1
        if not self._weights[share.weight]:
            del self._weights[share.weight]


def _by_state(holders: list[Request]) -> tuple[list[Request], list[Request]]:
    """Return those that run and those that do not, each by order of arrival."""
    holders = sorted(holders, key=attrgetter("number"))
    running = [request for request in holders if request.state is State.RUNNING]
    return running, [request for request in holders if request.state is not State.RUNNING]


def users(spread: float) -> Shares:
    """Return the shares of one tenant's users, which are equal."""
    return Shares(attrgetter("spec.user"), lambda request: 1.0, UserRequests, spread)


def tenants(spread: float) -> Shares:
    """Return the shares of tenants."""
    return Shares(attrgetter("spec.tenant"), attrgetter("spec.weight"), partial(users, spread), spread)
