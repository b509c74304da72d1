"""All errors of this package, in one tree. Its `check()` methods raise AssertionError.

AllocatorError
├── OutOfBlocksError         a pool has too few blocks; carries the numbers; nothing has changed
└── MisuseError              the caller broke a rule; nothing has changed
    ├── NotAllocatedError    an extent that is not allocated: freed twice, or split or trimmed since
    ├── UnknownOwnerError    an owner or node that was never added, or is gone
    ├── DuplicateOwnerError  a node that was already added
    ├── NotResidentError     a sequence with part of its KV off the device cannot run
    ├── NotReservedError     more tokens than the reserved blocks hold
    ├── NothingToCopyError   a swap that would move nothing
    ├── CopyPendingError     a second copy of a node while one is in flight
    └── UnknownTicketError   a ticket that already ended
"""


class AllocatorError(Exception):
    """Base class of all errors of this package."""


class OutOfBlocksError(AllocatorError):
    """A pool has too few blocks. ``free`` counts what the caller could have had, reserves of others included."""

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
    """No extent with these bounds is allocated."""


class UnknownOwnerError(MisuseError):
    """There is no such owner or node."""


class DuplicateOwnerError(MisuseError):
    """The node was already added."""


class NotResidentError(MisuseError):
    """Part of the sequence's KV is not on the device."""


class NotReservedError(MisuseError):
    """The reserved device blocks hold fewer tokens."""


class NothingToCopyError(MisuseError):
    """The destination already has all of it."""


class CopyPendingError(MisuseError):
    """The node has a copy in flight."""


class UnknownTicketError(MisuseError):
    """The ticket has already ended, or belongs to another memory."""
