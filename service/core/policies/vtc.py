"""Fair shares of service for tenants, and inside a tenant for its users: a virtual token counter (arXiv 2401.00588).

Service is counted as in `Served`. Classes stand above the shares: requests with a better priority go first, and
background work gets only what all other work leaves. Inside a class tenants share by their weights, and get at most a
bounded amount of service more than any other tenant that wants some (docs/fairness.md). With one tenant and one user it
is first come, first served.
"""

from collections.abc import Collection, Iterator
from operator import attrgetter
from typing import ClassVar

from sortedcontainers import SortedDict

from service.core.admission import Admission, Room
from service.core.policies.policy import Delays, PolicySettings
from service.core.policies.shares import Shares, tenants
from service.core.state.requests import Request, State

Class = tuple[bool, int]  # whether it is background work, priority


class VirtualTokenCounter:
    """Ranks by class, then by how much service a request's tenant and user have got.

    ``ageing_s`` seconds of age count as one level of priority: then a request moves to the best class there is.
    Background work does not age.
    """

    name: ClassVar[str] = "vtc"
    promotes: ClassVar[bool] = False

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings
        self._classes: SortedDict = SortedDict()
        self._raised: dict[Request, Class] = {}  # requests that have aged
        self._queued: dict[Class, SortedDict] = {}  # requests by number
        self._excluded_s = 0.0
        self._ended_s: float | None = None

    def add(self, request: Request) -> None:
        """Add a request to the queue."""
        own = self._class_of(request)
        self._shares(own).add(request)
        self._queued.setdefault(own, SortedDict())[request.number] = request

    def discard(self, request: Request) -> None:
        """Remove a request from the queue, if it is there."""
        own = self._class_of(request)
        if shares := self._classes.get(own):
            shares.discard(request)
            self._queued.get(own, {}).pop(request.number, None)

    def charge(self, request: Request, service: float) -> None:
        """Count service for the request's tenant and user."""
        self._shares(self._class_of(request)).charge(request, service)

    def rank(self, holders: Collection[Request], now: float, step: int) -> list[Request]:
        """Return the holders by order of arrival, which is how those in a quantum go: no updates are counted."""
        self._age(holders, now)
        groups: dict[Class, list[Request]] = {}
        for request in holders:
            groups.setdefault(self._class_of(request), []).append(request)
        for own in groups:
            self._shares(own)
        for own, shares in list(self._classes.items()):
            shares.begin(groups.get(own, []))
            if shares.is_empty:
                del self._classes[own]
                self._queued.pop(own, None)
        return sorted(holders, key=attrgetter("number"))

    def walk(self, first: Collection[Request], rest: list[Request], room: Room) -> Iterator[Request]:
        """Yield the rest of the holders and the queue, by class and share."""
        for shares in self._classes.values():
            ranks = shares.walk_all(room, self._settings.hysteresis)
            yield from (request for request in ranks if request not in first)

    def end(self, admission: Admission, room: Room, now: float) -> None:
        """Exclude the tenants whose requests did not fit although others backfilled."""
        passed_over = room if admission.backfilled else None
        served = {request.spec.tenant for request in admission.admitted}
        for shares in self._classes.values():
            shares.end(served, passed_over)
        if self._ended_s is not None and any(shares.has_excluded for shares in self._classes.values()):
            self._excluded_s += now - self._ended_s
        self._ended_s = now

    def fairness(self, delays: Delays) -> tuple[float, float, float]:
        """Return the greatest gap of a class, its bound, and the seconds in which a tenant was excluded."""
        weight = min((shares.least_weight for shares in self._classes.values()), default=1.0)
        bound = self._settings.hysteresis * (1 + delays.rows / weight) + delays.steps * delays.step_service / weight
        return max((shares.gap() for shares in self._classes.values()), default=0.0), bound, self._excluded_s

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        for shares in self._classes.values():
            shares.check()

    def _class_of(self, request: Request) -> Class:
        return self._raised.get(request) or (request.spec.background, request.priority)

    def _shares(self, own: Class) -> Shares:
        shares: Shares | None = self._classes.get(own)
        if shares is None:
            shares = self._classes[own] = tenants(self._settings.hysteresis)
        return shares

    def _age(self, holders: Collection[Request], now: float) -> None:
        """Move the requests that have waited long enough to the best class there is."""
        self._raised = {r: own for r, own in self._raised.items() if r.state is not State.FINISHED}
        if not self._settings.ageing_s or len(self._classes) < 2:
            return
        best: Class = self._classes.keys()[0]
        for own in [own for own in self._classes if own != best and not own[0]]:
            before = now - (own[1] - best[1]) * self._settings.ageing_s
            queued = self._queued.get(own, {})
            while queued and queued.peekitem(0)[1].arrival_s <= before:
                request = queued.peekitem(0)[1]
                self.discard(request)
                self._raised[request] = best
                self.add(request)
            self._raised |= {r: best for r in holders if self._class_of(r) == own and r.arrival_s <= before}
