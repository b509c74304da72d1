"""All nodes, and what standing on one another means for them."""

from collections.abc import Iterator, Sequence
from itertools import count

from allocator.errors import CopyPendingError, DuplicateOwnerError, MisuseError, UnknownOwnerError
from allocator.nodes import Node
from allocator.tickets import Ticket


class NodeTree:
    """The nodes by number, from 0 up.

    A node has KV only if the prefixes that it stands on have all of theirs. Whether they also have it on the device is
    asked in every step, so each tail remembers for which count of losses that was true: ``_losses`` rises whenever a
    prefix may have ceased to be complete and resident.
    """

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._nodes: dict[int, Node] = {}
        self._epochs = count()
        self._losses = 0

    def __iter__(self) -> Iterator[Node]:
        """Iterate over all nodes, in the order in which they were added."""
        return iter(self._nodes.values())

    @property
    def tails(self) -> tuple[int, ...]:
        """The numbers of all tails, in the order in which they were added."""
        return tuple(node.number for node in self if node.length is None)

    @property
    def prefixes(self) -> tuple[int, ...]:
        """The numbers of all prefixes, in the order in which they were split off."""
        return tuple(node.number for node in self if node.length is not None)

    def new_epoch(self) -> int:
        """Return an epoch that no node has had."""
        return next(self._epochs)

    def require_new(self, number: int) -> None:
        """Raise DuplicateOwnerError if there is a node of this number."""
        if number < 0:
            raise ValueError(f"numbers start at 0, {number} is not one")
        if number in self._nodes:
            raise DuplicateOwnerError(f"node {number} was already added")

    def node(self, number: int) -> Node:
        """Return a node. Raises UnknownOwnerError."""
        node = self._nodes.get(number)
        if node is None:
            raise UnknownOwnerError(f"there is no node {number}")
        return node

    def tail(self, number: int) -> Node:
        """Return a sequence's tail. Raises UnknownOwnerError, and MisuseError for a prefix."""
        node = self._nodes.get(number)
        if node is None or node.length is not None:
            self.node(number)
            raise MisuseError(f"node {number} is a prefix, not a sequence")
        return node

    def prefix(self, number: int) -> Node:
        """Return a prefix. Raises UnknownOwnerError, and MisuseError for a tail."""
        node = self.node(number)
        if node.length is None:
            raise MisuseError(f"node {number} is the tail of a sequence, not a prefix")
        return node

    def settled(self, number: int) -> Node:
        """Return a node. Raises UnknownOwnerError, and CopyPendingError if a copy of it is in flight."""
        node = self.node(number)
        if node.ticket is not None:
            raise CopyPendingError(f"node {number}: ticket {node.ticket.number} is in flight")
        return node

    def under_copy(self, ticket: Ticket) -> Node | None:
        """Return the node that a ticket copies; None if it was dropped (its number may be in use again)."""
        node = self._nodes.get(ticket.node)
        return None if node is None or node.ticket != ticket else node

    def add_tail(self, number: int, parent: Node | None) -> None:
        """Add a tail without KV, which stands on ``parent``. Raises DuplicateOwnerError."""
        self.require_new(number)
        self._nodes[number] = Node(number, self.new_epoch(), parent)

    def split(self, node: Node, head: int, length: int) -> None:
        """Insert a new prefix of ``length`` tokens before a node, with the KV that the node has of them."""
        self._losses += 1
        self._nodes[head] = above = Node(head, self.new_epoch(), length=length)
        node.split(above, self._block_tokens)

    def remove(self, node: Node) -> None:
        """Forget a node on which nothing stands."""
        node.leave()
        del self._nodes[node.number]

    def count_loss(self, node: Node) -> None:
        """Note that a node may have lost KV on the device."""
        self._losses += node.length is not None

    def stands_ready(self, tail: Node) -> bool:
        """Return whether all that a sequence stands on is complete and resident; it is until something is lost."""
        if tail.parent is None or tail.ready_at == self._losses:
            return True
        if any(prefix.resident != prefix.length for prefix in tail.above()):
            return False
        tail.ready_at = self._losses
        return True

    def next_node(self, tail: Node) -> Node:
        """Return the node of a sequence whose KV is computed next: the first that is not complete."""
        if self.stands_ready(tail) or (tail.parent is not None and tail.parent.is_complete):
            return tail
        return next(node for node in tail.path() if not node.is_complete)

    def next_tokens(self, tail: Node, tokens: int) -> Sequence[tuple[Node, int]]:
        """Divide the next ``tokens`` tokens of a sequence among the nodes of its path that have none of their KV."""
        if self.stands_ready(tail):
            return [(tail, tokens)]
        parts = []
        for node in tail.path():
            more = tokens if node.length is None else min(tokens, node.length - node.computed)
            if more:
                parts.append((node, more))
                tokens -= more
        return parts

    def check(self) -> None:
        """Raise AssertionError unless the tree is one, and prefixes are whole blocks of KV from their start on."""
        for number, node in self._nodes.items():
            name, parent = f"node {number}", node.parent
            assert node.number == number, f"{name} has the number {node.number}"
            assert node.start == (0 if parent is None else parent.end), f"{name} begins at token {node.start}"
            assert parent is None or (node in parent.children and self._nodes[parent.number] is parent), (
                f"{name}: its parent"
            )
            assert parent is None or parent.is_complete or not node.computed, f"{name} has KV, and its prefix does not"
            assert all(child.parent is node for child in node.children), f"{name}: its children"
            assert node.length is not None or not node.children, f"{name} is a tail, and nodes stand on it"
