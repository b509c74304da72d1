"""How far a sequence's KV reaches on either side, and the rules by which a copy or a cut moves that."""

from typing import NamedTuple

from allocator.tickets import Direction, Ticket


class Watermarks(NamedTuple):
    """Leading tokens that have KV at all, on the device, and on the host; and the epoch, raised when KV is cut."""

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

    def cut(self, resident: int, mirrored: int) -> None:
        """Lower the watermarks to at most these."""
        self.resident = min(self.resident, resident)
        self.mirrored = min(self.mirrored, mirrored)

    def land(self, ticket: Ticket) -> bool:
        """Move the watermark of a completed ticket; False if KV was cut since it was issued."""
        if ticket.epoch != self.epoch:
            return False
        if ticket.direction is Direction.OUT:
            self.mirrored = ticket.end
        else:
            self.resident = ticket.end
        return True
