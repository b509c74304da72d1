"""The tree of nodes: shared prefixes, and the tails of sequences that stand on them.

A *sequence* is a path of *prefixes*, from a root down, and its own *tail*. A prefix is a run of whole blocks that never
changes: it is computed once, by any sequence that stands on it. A tail grows and is truncated.
"""

from collections.abc import Iterator

from allocator.extents import Extent
from allocator.watermarks import Marks

Extents = tuple[Extent, ...]


class Node(Marks):
    """A prefix, or a tail, which has the number of its sequence. ``length`` is in tokens, None for a tail."""

    __slots__ = ("_joined", "children", "length", "number", "parent", "ready_at", "start")

    def __init__(self, number: int, epoch: int, parent: "Node | None" = None, length: int | None = None) -> None:
        super().__init__(epoch)
        self.number = number
        self.length = length
        self.parent = parent
        self.children: dict[Node, None] = {}
        self.start = 0  # the token of the sequence with which it begins
        self.ready_at = -1  # the losses of `NodeTree` when all that it stands on was last found complete and resident
        self._joined: tuple[Extents, Extents, Extents] = ((), (), ())  # extents above it, its own, and both
        if parent is not None:
            self.start = parent.end
            parent.children[self] = None

    @property
    def end(self) -> int:
        """The token of the sequence behind a prefix."""
        assert self.length is not None
        return self.start + self.length

    @property
    def is_complete(self) -> bool:
        """Whether a prefix has all its KV. A tail is never complete."""
        return self.computed == self.length

    def path(self) -> "list[Node]":
        """Return the nodes from the root to this one."""
        path, node = [self], self.parent
        while node is not None:
            path.append(node)
            node = node.parent
        path.reverse()
        return path

    def above(self) -> "Iterator[Node]":
        """Yield the prefixes that it stands on, the nearest first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    def split(self, head: "Node", block_tokens: int) -> None:
        """Insert ``head``, a prefix without KV, before this node, which begins behind it from now on."""
        assert head.length is not None
        self.cede(head, head.length, block_tokens)
        head.start, head.parent = self.start, self.parent
        head.children[self] = None
        if self.parent is not None:
            del self.parent.children[self]
            self.parent.children[head] = None
        self.parent = head
        self.start = head.end
        if self.length is not None:
            self.length -= head.length

    def stand_on(self, parent: "Node") -> None:
        """Become a child of another prefix. It must have no KV."""
        self.leave()
        self.parent, self.start, self.ready_at = parent, parent.end, -1
        parent.children[self] = None

    def leave(self) -> None:
        """Stand on nothing any more."""
        if self.parent is not None:
            del self.parent.children[self]

    def check(self, device: int, host: int, block_tokens: int) -> None:
        """Raise AssertionError unless its watermarks fit one another, its length, and its blocks on either side."""
        name = f"node {self.number}"
        assert device >= -(-self.resident // block_tokens), f"{name}: resident tokens without blocks"
        mirrored = -(-self.mirrored // block_tokens) - self.first_mirrored
        assert host == mirrored or (host > mirrored and self.ticket is not None), f"{name}: {host} host blocks"
        assert mirrored > 0 or self.mirrored == self.first_mirrored == 0, f"{name}: an empty copy has a place"
        begins = self.first_mirrored * block_tokens
        assert self.is_resident or begins <= self.resident, f"{name}: {self.resident} resident, copy from {begins}"
        whole = self.is_resident or self.resident % block_tokens == 0
        assert whole, f"{name}: resident ends at token {self.resident}, inside a block"
        if self.length is not None:
            assert self.length > 0, f"{name} is an empty prefix"
            assert self.length % block_tokens == 0, f"{name} ends inside a block"
            assert self.computed <= self.length, f"{name} has KV of {self.computed} tokens, it has {self.length}"
            assert device * block_tokens <= self.length, f"{name} has too many device blocks"

    def join(self, above: Extents, own: Extents) -> Extents:
        """Return the extents above it and its own, neighbours merged; the same object as long as they are equal."""
        if not above:
            return own
        if self._joined[0] is not above or self._joined[1] is not own:
            before, joined = self._joined[2], _join(above, own)
            self._joined = above, own, before if before == joined else joined
        return self._joined[2]


def _join(above: Extents, own: Extents) -> Extents:
    if own and above[-1].end == own[0].start:
        merged = Extent(own[0].pool, above[-1].start, above[-1].length + own[0].length)
        return (*above[:-1], merged, *own[1:])
    return above + own
