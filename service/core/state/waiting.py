"""Waiting requests by the blocks that they need, so that a step looks only at those that fit."""

from collections.abc import Callable, Hashable, Iterator
from heapq import heapify, heappop, heapreplace
from typing import Any, Generic, Protocol, TypeVar

from sortedcontainers import SortedList

ItemT = TypeVar("ItemT", bound=Hashable)

_Entry = tuple[Any, int, ItemT]  # key, number, item: numbers differ, so items are never compared


class Room(Protocol):
    """What a queue is shown of `service.core.admission.Room`: what those admitted so far leave. It only shrinks."""

    @property
    def is_full(self) -> bool:
        """Whether nobody else is admitted."""

    @property
    def largest(self) -> int:
        """Blocks of the largest item that still fits."""


class SizedQueue(Generic[ItemT]):
    """Items by size and key. Always true: each item is in the list of its size, and no list is empty."""

    def __init__(self) -> None:
        self._sizes: dict[int, SortedList] = {}
        self._entries: dict[ItemT, tuple[int, _Entry[ItemT]]] = {}

    def __contains__(self, item: ItemT) -> bool:
        """Return whether the item waits."""
        return item in self._entries

    def __iter__(self) -> Iterator[ItemT]:
        """Iterate over all items, in no order."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._entries)

    def size_of(self, item: ItemT) -> int:
        """Return the size of an item that is there."""
        return self._entries[item][0]

    @property
    def smallest(self) -> int | None:
        """The least size of an item."""
        return min(self._sizes, default=None)

    @property
    def sizes(self) -> dict[int, tuple[Any, Any]]:
        """The least and the greatest key of each size."""
        return {size: (entries[0][0], entries[-1][0]) for size, entries in self._sizes.items()}

    def add(self, item: ItemT, size: int, key: Any, number: int) -> None:
        """Add an item, which is not there yet. Equal keys rank by ``number``, which no two items share."""
        entry = (key, number, item)
        self._entries[item] = size, entry
        entries = self._sizes.get(size)
        if entries is None:
            self._sizes[size] = SortedList([entry])
        else:
            entries.add(entry)

    def discard(self, item: ItemT) -> int | None:
        """Remove an item if it is there. Return its size."""
        if (found := self._entries.pop(item, None)) is None:
            return None
        size, entry = found
        self._sizes[size].remove(entry)
        if not self._sizes[size]:
            del self._sizes[size]
        return size

    def rekey(self, key: Callable[[ItemT], Any]) -> None:
        """Give every item a new key. O(items log items)."""
        sizes: dict[int, list[_Entry[ItemT]]] = {size: [] for size in self._sizes}
        for item, (size, (_, number, _)) in self._entries.items():
            entry = (key(item), number, item)
            self._entries[item] = size, entry
            sizes[size].append(entry)
        self._sizes = {size: SortedList(entries) for size, entries in sizes.items()}

    def walk(self, room: Room) -> Iterator[ItemT]:
        """Yield those that fit, by key, while ``room`` shrinks; of those that do not, at least the first.

        The caller changes the queue only when it is done with the walk.
        """
        if room.is_full:
            return
        lists = [(iter(entries), size) for size, entries in self._sizes.items() if size <= room.largest]
        heads = [(next(entries), size, entries) for entries, size in lists]
        if too_large := [entries[0] for size, entries in self._sizes.items() if size > room.largest]:
            heads.append((min(too_large), room.largest + 1, iter(())))
        heapify(heads)
        while heads and not room.is_full:
            entry, size, entries = heads[0]
            fits = size <= room.largest
            yield entry[2]
            if fits and (following := next(entries, None)) is not None:
                heapreplace(heads, (following, size, entries))
            else:
                heappop(heads)

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        assert all(self._sizes.values())
        listed = {entry[2]: (size, entry) for size, entries in self._sizes.items() for entry in entries}
        assert listed == self._entries
