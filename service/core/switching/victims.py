"""Victims: what is idle and requests that are not admitted give device blocks and slots to admitted requests.

Blocks come from prefixes that nobody holds, then from idle sessions, longest silent first; then from prefixes on which
only requests stand that hold nothing of their own; then from live requests that are not running, lowest rank first;
then from running ones, lowest rank first. A prefix has the rank of the best request on it, and gives blocks after the
tail of that one. A victim gives its last blocks, and no more than are needed. Blocks whose KV is on the host are free
at once. Others are swapped out first and count as *arriving* meanwhile, so that there is no second victim for the same
need. One copy is for all that the admitted lack, and a few more, so that a batch which grows by a block a step does not
need a copy a step. KV that cannot be copied is dropped, tail first and only as much as needed. An admitted request is
never a victim, nor is a prefix that it stands on.
"""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from service.core.state.ledger import Ledger
from service.core.state.owners import Owner, Prefix
from service.core.state.requests import Request, State
from service.core.switching.host_room import HostVictims
from service.core.switching.swaps import SwapManager

SLACK_BLOCKS = 8  # that a copy takes at most beyond what is lacking
SLACK_SHARE = 16  # and at most this part of the pool

Victim = tuple[Owner, Request | None]  # with the request to which a copy is charged


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
        self._protected = _prefixes_of(admitted)
        self._running = [request for request in others if request.state is State.RUNNING]
        self._not_running = [request for request in others if request.state is not State.RUNNING]
        self._holders: Counter[Prefix] | None = None  # how many of both stand on a prefix; None until blocks are needed
        self._queue: deque[Victim] | None = None  # the next ones; None until blocks are needed
        self._victim: Victim | None = None  # the current one
        self._slack = min(SLACK_BLOCKS, ledger.memory.device.num_blocks // SLACK_SHARE)
        self._promises: dict[int, int] = {}  # blocks for admitted requests that wait, by node
        self._promised = 0  # all of them
        self._arriving = self._count_arriving()

    def obtain_blocks(self, request: Request, *, reserve: bool = False) -> bool:
        """Take the device blocks that an admitted request lacks from victims. False: they are not all available yet.

        ``reserve`` gives them to it at once; it has all its KV on the device.
        """
        lacking = self._lacking(request)
        if not lacking:  # it may run whatever is promised to others
            return True
        self._withdraw_promises(lacking)
        missing = sum(lacking.values())
        self._take_blocks(missing)
        if missing <= self._available:
            if reserve:
                self._memory.reserve(request.sequence, request.num_tokens)
            return True
        self._promise(lacking)
        return False

    def promise_blocks(self, request: Request) -> None:
        """Keep the blocks that an admitted request still lacks from all requests after it."""
        self._promise(self._lacking(request))

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
            if not self._lacking(request):
                going_on.append(request)
            else:
                self._ledger.preempt(request, "growth", self._now)
        return going_on

    @property
    def _available(self) -> int:
        return self._memory.device.num_available - self._promised

    def _lacking(self, request: Request) -> dict[int, int]:
        """Return the device blocks that the nodes of a request lack, by node."""
        return self._memory.lacking(request.sequence, request.num_tokens)

    def _promise(self, lacking: dict[int, int]) -> None:
        self._withdraw_promises(lacking)
        self._promises |= lacking
        self._promised += sum(lacking.values())

    def _withdraw_promises(self, numbers: Iterable[int]) -> None:
        """Make blocks available that are promised to these nodes: whoever stands on them takes the blocks for all."""
        for number in numbers:
            self._promised -= self._promises.pop(number, 0)

    def _count_arriving(self) -> int:
        """Count the device blocks of others than the admitted that become available when copies in flight end."""
        if not self._memory.tickets:
            return 0
        kept = {request.sequence for request in self._admitted} | {prefix.number for prefix in self._protected}
        leaving = {ticket.node for ticket in self._memory.tickets} - kept
        known = [number for number in leaving if number in self._memory.device]
        return self._memory.num_held_by_tickets + sum(map(self._memory.arriving_device, known))

    def _lacking_in_all(self) -> int:
        """Count the blocks that the admitted lack in all, beyond those that are available or arriving."""
        lacking: dict[int, int] = {}
        for request in self._admitted:
            lacking |= self._lacking(request)
        return sum(lacking.values()) - self._memory.device.num_available - self._arriving

    def _take_blocks(self, num_blocks: int) -> None:
        """Take from victims until ``num_blocks`` are available or arriving, or no victim is left."""
        while (short := num_blocks - self._available - self._arriving) > 0:
            if self._victim is None:
                self._victim = self._next_victim()
            if self._victim is None:
                return
            if not self._take_from(*self._victim, short):
                self._victim = None

    def _take_from(self, owner: Owner, request: Request | None, short: int) -> bool:
        """Take up to ``short`` blocks from a victim, now or when a copy ends. False: it has no more to give."""
        number = owner.number
        if self._memory.pending(number) is not None:
            return False  # counted as arriving
        if self._memory.reclaim_device(number, short):
            return True
        if not self._memory.device.used(number):
            self._ledger.sessions.left_device(owner)
            return False
        to_copy = max(short, self._lacking_in_all()) + self._slack
        if reason := self._swaps.start_swap_out(owner, self._host_victims, request, to_copy):
            self._ledger.drop_last(owner, short, reason)
            self._swaps.forget_failures(number)
            return number in self._memory.device
        self._arriving += self._memory.arriving_device(number)
        return False

    def _copy_out(self, owner: Owner, request: Request | None, short: int) -> None:
        """Copy ``short`` of a victim's blocks out if that is possible, and count what it could give as arriving."""
        number = owner.number
        if self._memory.pending(number) is not None:
            return  # counted as arriving
        used, clean = self._memory.device.used(number), self._memory.reclaimable_device(number)
        if not used:
            self._ledger.sessions.left_device(owner)
        elif clean >= min(short, used) or self._swaps.start_swap_out(
            owner, self._host_victims, request, short + self._slack
        ):
            self._arriving += clean
        else:
            self._arriving += self._memory.arriving_device(number)

    def _next_victim(self, *, spare_running: bool = False) -> Victim | None:
        if self._queue is None:
            self._queue = deque((owner, None) for owner in self._ledger.sessions.idle_on_device)
        while True:
            while self._queue:
                victim = self._queue.popleft()
                if victim[0].number in self._memory.device:  # else it was dropped for its host blocks, or with another
                    return victim
            if not self._enqueue_more(self._queue, spare_running=spare_running):
                return None

    def _enqueue_more(self, queue: deque[Victim], *, spare_running: bool) -> bool:
        """Enqueue the next in order behind what is idle. False: there is no more."""
        if self._holders is None:
            others = (*self._running, *self._not_running)
            self._holders = Counter(prefix for request in others for prefix in request.session.path_up)
            queue.extend((prefix, None) for prefix in self._unranked(self._holders))
            return True
        if not self._not_running and self._running and not spare_running:
            victim = self._running.pop()
            self._ledger.preempt(victim, "room", self._now)
            self._not_running.append(victim)
        if not self._not_running:
            return False
        request = self._not_running.pop()
        queue.append((request.session, request))
        for prefix in request.session.path_up:
            self._holders[prefix] -= 1
            if not self._holders[prefix] and prefix not in self._protected:
                queue.append((prefix, request))
        return True

    def _unranked(self, holders: Counter[Prefix]) -> list[Prefix]:
        """Return the prefixes with live requests all of which hold nothing, what stands on others first."""
        live = self._ledger.sessions.live_prefixes
        unranked = [prefix for prefix in live if prefix not in self._protected and not holders[prefix]]
        return sorted(unranked, key=lambda prefix: prefix.start, reverse=True)


def _prefixes_of(requests: Sequence[Request]) -> set[Prefix]:
    nearest = {request.session.prefix for request in requests}
    return {prefix for near in nearest if near is not None for prefix in near.path_up}
