"""Every error of this package, in one tree.

AllocatorError
├── OutOfBlocksError         a pool has too few blocks; carries the numbers; nothing has changed
├── MisuseError              the caller broke a rule; nothing has changed
│   ├── NotAllocatedError    an extent that is not handed out: freed twice, or cut by someone else
│   ├── SharedExtentError    an extent with several holders cannot change its bounds
│   ├── UnknownOwnerError    an owner or sequence that was never added, or is gone
│   ├── DuplicateOwnerError  a sequence that is already there
│   ├── NotResidentError     a sequence with part of its KV off the device cannot run
│   ├── NoRoomError          more tokens than the reserved blocks hold
│   ├── NothingToCopyError   a swap that would move nothing
│   ├── CopyPendingError     a second copy of a sequence while one is in flight
│   └── UnknownTicketError   a ticket that already ended
└── InvariantError           `check()` found a contradiction: a bug in this package
"""


class AllocatorError(Exception):
    """Base of all."""


class OutOfBlocksError(AllocatorError):
    """A pool has too few blocks. ``free`` counts what the asker could have had, reserves of others included."""

    def __init__(self, pool: int, total: int, free: int, asked: int) -> None:
        super().__init__(f"pool {pool} has {free} of {total} blocks free, {asked} asked for")
        self.pool = pool
        self.total = total
        self.free = free
        self.asked = asked

    def __reduce__(self) -> tuple[type["OutOfBlocksError"], tuple[int, int, int, int]]:
        return type(self), (self.pool, self.total, self.free, self.asked)


class MisuseError(AllocatorError):
    """The caller broke a rule of this package."""


class NotAllocatedError(MisuseError):
    """The extent is not handed out as it stands."""


class SharedExtentError(MisuseError):
    """The extent has several holders, so its bounds cannot change."""


class UnknownOwnerError(MisuseError):
    """No such owner or sequence."""


class DuplicateOwnerError(MisuseError):
    """The sequence is already there."""


class NotResidentError(MisuseError):
    """Part of the sequence's KV is not on the device."""


class NoRoomError(MisuseError):
    """More tokens than the reserved device blocks hold."""


class NothingToCopyError(MisuseError):
    """The destination already has all of it."""


class CopyPendingError(MisuseError):
    """The sequence has a copy in flight."""


class UnknownTicketError(MisuseError):
    """The ticket has already ended, or is not of this memory."""


class InvariantError(AllocatorError):
    """State contradicts itself."""


def require(holds: bool, message: str) -> None:
    """Raise `InvariantError` unless ``holds``. Unlike an assert, it stays when Python optimises."""
    if not holds:
        raise InvariantError(message)
