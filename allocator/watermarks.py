"""How far a node's KV reaches on device and host, and how a copy, a truncation or a split changes that."""

from typing import NamedTuple

from allocator.tickets import Direction, Ticket


class Watermarks(NamedTuple):
    """A node's leading tokens that have KV at all, on the device, and up to the end of the copy on the host.

    The copy begins with block ``first_mirrored`` of the node. The epoch rises when KV is truncated.
    """

    computed: int
    resident: int
    mirrored: int
    epoch: int
    first_mirrored: int


class Marks:
    """A node's watermarks in tokens from its start on, and its copy in flight. ``computed`` follows from two others."""

    __slots__ = ("epoch", "first_mirrored", "mirrored", "resident", "ticket")

    def __init__(self, epoch: int) -> None:
        self.resident = 0
        self.mirrored = 0  # 0: the host has nothing of it
        self.first_mirrored = 0  # a block, 0 where the host has nothing
        self.epoch = epoch
        self.ticket: Ticket | None = None

    @property
    def computed(self) -> int:
        """Tokens that have KV."""
        return max(self.resident, self.mirrored)

    @property
    def is_resident(self) -> bool:
        """Whether all KV is on the device."""
        return self.resident >= self.mirrored

    @property
    def first_on_host(self) -> int:
        """The first block that it has on the host, those that a copy in flight is writing included."""
        ticket = self.ticket
        if ticket is None or ticket.direction is Direction.IN:
            return self.first_mirrored
        return min(self.first_mirrored, ticket.first_block) if self.mirrored else ticket.first_block

    def to_mirror(self, num_blocks: int | None, block_tokens: int) -> tuple[range, range]:
        """Return the blocks to copy so that the last ``num_blocks`` can be given, and those that the host has then.

        A copy grows where it touches what is asked for. Where blocks lie between, they are copied too if they are no
        more than the copy has; else the copy starts anew. So no more is copied than was asked for and copied before.
        """
        on_device, computed = -(-self.resident // block_tokens), -(-self.computed // block_tokens)
        first = 0 if num_blocks is None else max(0, on_device - num_blocks)
        if self.mirrored == self.computed:
            last = self.first_mirrored
            return range(first, last), range(min(first, last), computed)
        full = self.mirrored // block_tokens
        if self.mirrored and self.first_mirrored <= first <= 2 * full - self.first_mirrored:
            return range(full, computed), range(self.first_mirrored, computed)
        return range(first, computed), range(first, computed)

    def needed_blocks(self, block_tokens: int) -> int:
        """Return how many leading device blocks hold KV that is not mirrored to its end."""
        return self.first_mirrored if self.mirrored == self.computed else -(-self.resident // block_tokens)

    def truncate(self, resident: int, mirrored: int, block_tokens: int) -> None:
        """Lower the watermarks to at most these."""
        self.resident = min(self.resident, resident)
        self.mirrored = min(self.mirrored, mirrored)
        if self.mirrored <= self.first_mirrored * block_tokens:
            self.mirrored = self.first_mirrored = 0

    def cede(self, head: "Marks", tokens: int, block_tokens: int) -> None:
        """Give the KV of the first ``tokens`` tokens, whole blocks, to ``head``. No copy is in flight."""
        blocks = tokens // block_tokens
        head.resident = min(self.resident, tokens)
        if self.first_mirrored < blocks:
            head.mirrored, head.first_mirrored = min(self.mirrored, tokens), self.first_mirrored
        self.resident = max(0, self.resident - tokens)
        self.mirrored = max(0, self.mirrored - tokens)
        self.first_mirrored = max(0, self.first_mirrored - blocks) if self.mirrored else 0

    def apply(self, ticket: Ticket) -> bool:
        """Raise the watermark for a completed ticket; False if KV was truncated since it was issued."""
        if ticket.epoch != self.epoch:
            return False
        if ticket.direction is Direction.IN:
            self.resident = ticket.end
            return True
        self.first_mirrored = min(self.first_mirrored, ticket.first_block) if self.mirrored else ticket.first_block
        self.mirrored = max(self.mirrored, ticket.end)
        return True

    def after_copy(self) -> "Marks":
        """Return the marks that it will have if its copy in flight succeeds."""
        after = Marks(self.epoch)
        after.resident, after.mirrored, after.first_mirrored = self.resident, self.mirrored, self.first_mirrored
        if self.ticket is not None:
            after.apply(self.ticket)
        return after
