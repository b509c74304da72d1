"""An index of items by size: best fit, largest, add and remove.

Disjoint extents of N blocks have fewer than sqrt(2 N) different lengths (1 + 2 + 3 + ... must fit in N), 447 at
100,000 blocks, however many extents there are. So the sizes are a plain sorted list, in which a bisection is one C call
and an insertion moves less than 4 KB, and each size has a dict of its items. A `sortedcontainers.SortedList` of
(size, item) took 2 to 5 times as long an operation, at 300 to 30,000 extents.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator


class SizeIndex:
    """Items (ints, each once) by size. Items of equal size leave last in, first out, so that a run repeats exactly."""

    __slots__ = ("_items", "_sizes")

    def __init__(self) -> None:
        self._items: dict[int, dict[int, None]] = {}  # size -> items in order of arrival
        self._sizes: list[int] = []  # the keys of _items, ascending

    def add(self, size: int, item: int) -> None:
        """Add ``item`` under ``size``."""
        items = self._items.get(size)
        if items is None:
            self._items[size] = {item: None}
            insort(self._sizes, size)
        else:
            items[item] = None

    def remove(self, size: int, item: int) -> None:
        """Remove ``item`` from ``size``. Raises KeyError if it is not there."""
        items = self._items[size]
        del items[item]
        if not items:
            self._forget(size)

    def pop_at_least(self, size: int) -> tuple[int, int] | None:
        """Remove an item of the smallest size from ``size`` up. Return its size and it; None if there is none."""
        at = bisect_left(self._sizes, size)
        if at == len(self._sizes):
            return None
        found = self._sizes[at]
        items = self._items[found]
        item, _ = items.popitem()
        if not items:
            del self._items[found]
            del self._sizes[at]
        return found, item

    @property
    def largest(self) -> int:
        """The largest size of an item, 0 if there are none."""
        return self._sizes[-1] if self._sizes else 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((size, item) for size in self._sizes for item in self._items[size])

    def _forget(self, size: int) -> None:
        del self._items[size]
        del self._sizes[bisect_left(self._sizes, size)]
