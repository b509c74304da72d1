"""Waiting requests by what they need, so that a step looks only at those that fit."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from heapq import heapify, heappop, heapreplace
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from sortedcontainers import SortedList

from service.core.state.owners import Prefix
from service.core.state.requests import Needs

ItemT = TypeVar("ItemT", bound=Hashable)

_Entry = tuple[Any, int, ItemT]  # key, number, item: numbers differ, so items are never compared


NOTHING_FITS: Needs = frozenset()


def least(several: Iterable[Needs]) -> Needs:
    """Return the least blocks for each prefix: one of these fits if and only if one of several needs fits."""
    distinct = set(several)
    if len(distinct) == 1:
        return distinct.pop()
    blocks: dict[Prefix | None, int] = {}
    for prefix, count in chain.from_iterable(distinct):
        blocks[prefix] = min(count, blocks.get(prefix, count))
    return frozenset(blocks.items())


class Room(Protocol):
    """What a queue is shown of `service.core.admission.Room`: what those admitted so far leave. It only shrinks."""

    @property
    def is_full(self) -> bool:
        """Whether nobody else is admitted."""

    def fits(self, needs: Needs) -> bool:
        """Return whether one of these needs still fits."""


class NeedsQueue(Generic[ItemT]):
    """Items by needs and key. Always true: each item is in the list of its needs, and no list is empty."""

    def __init__(self) -> None:
        self._lists: dict[Needs, SortedList] = {}
        self._entries: dict[ItemT, tuple[Needs, _Entry[ItemT]]] = {}

    def __contains__(self, item: ItemT) -> bool:
        """Return whether the item waits."""
        return item in self._entries

    def __iter__(self) -> Iterator[ItemT]:
        """Iterate over all items, in no order."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._entries)

    def needs_of(self, item: ItemT) -> Needs:
        """Return the needs of an item that is there."""
        return self._entries[item][0]

    @property
    def least(self) -> Needs:
        """The needs of which at least one fits if an item fits."""
        return least(self._lists)

    @property
    def ends(self) -> dict[Needs, tuple[Any, Any]]:
        """The least and the greatest key for each needs."""
        return {needs: (entries[0][0], entries[-1][0]) for needs, entries in self._lists.items()}

    def add(self, item: ItemT, needs: Needs, key: Any, number: int) -> None:
        """Add an item, which is not there yet. Equal keys rank by ``number``, which no two items share."""
        entry = (key, number, item)
        self._entries[item] = needs, entry
        entries = self._lists.get(needs)
        if entries is None:
            self._lists[needs] = SortedList([entry])
        else:
            entries.add(entry)

    def discard(self, item: ItemT) -> Needs | None:
        """Remove an item if it is there. Return its needs."""
        if (found := self._entries.pop(item, None)) is None:
            return None
        needs, entry = found
        self._lists[needs].remove(entry)
        if not self._lists[needs]:
            del self._lists[needs]
        return needs

    def rekey(self, key: Callable[[ItemT], Any]) -> None:
        """Give every item a new key. O(items log items)."""
        lists: dict[Needs, list[_Entry[ItemT]]] = {needs: [] for needs in self._lists}
        for item, (needs, (_, number, _)) in self._entries.items():
            entry = (key(item), number, item)
            self._entries[item] = needs, entry
            lists[needs].append(entry)
        self._lists = {needs: SortedList(entries) for needs, entries in lists.items()}

    def walk(self, room: Room) -> Iterator[ItemT]:
        """Yield those that fit, by key, while ``room`` shrinks; of those that do not, at least the first.

        The caller changes the queue only when it is done with the walk.
        """
        if room.is_full:
            return
        heads: list[tuple[_Entry[ItemT], Needs, Iterator[_Entry[ItemT]]]] = []
        blocked: _Entry[ItemT] | None = None
        for needs, entries in self._lists.items():
            if room.fits(needs):
                rest = iter(entries)
                heads.append((next(rest), needs, rest))
            elif blocked is None or entries[0] < blocked:
                blocked = entries[0]
        if blocked is not None:
            heads.append((blocked, NOTHING_FITS, iter(())))
        heapify(heads)
        while heads and not room.is_full:
            entry, needs, rest = heads[0]
            fits = room.fits(needs)
            yield entry[2]
            if fits and (following := next(rest, None)) is not None:
                heapreplace(heads, (following, needs, rest))
            else:
                heappop(heads)

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        assert all(self._lists.values())
        listed = {entry[2]: (needs, entry) for needs, entries in self._lists.items() for entry in entries}
        assert listed == self._entries
