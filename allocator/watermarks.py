"""How far a sequence's KV reaches on device and host, and how a copy or a truncation changes that."""

from typing import NamedTuple

from allocator.tickets import Direction, Ticket


class Watermarks(NamedTuple):
    """Leading tokens that have KV at all, on the device, and on the host; the epoch rises when KV is truncated."""

    computed: int
    resident: int
    mirrored: int
    epoch: int


class SequenceState:
    """One sequence's watermarks in tokens, and its copy in flight. ``computed`` follows from the other two."""

    __slots__ = ("epoch", "mirrored", "resident", "ticket")

    def __init__(self, epoch: int) -> None:
        self.resident = 0
        self.mirrored = 0
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

    def truncate(self, resident: int, mirrored: int) -> None:
        """Lower the watermarks to at most these."""
        self.resident = min(self.resident, resident)
        self.mirrored = min(self.mirrored, mirrored)

    def apply(self, ticket: Ticket) -> bool:
        """Raise the watermark for a completed ticket; False if KV was truncated since it was issued."""
        if ticket.epoch != self.epoch:
            return False
        if ticket.direction is Direction.OUT:
            self.mirrored = ticket.end
        else:
            self.resident = ticket.end
        return True
