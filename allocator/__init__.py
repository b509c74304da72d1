"""Who owns which KV blocks: numbered pools, block groups, and where each sequence's KV is.

`KVMemory` owns it all: two `BlockGroups` (device and host), each over an `ExtentPool`, and every sequence's watermarks.
Nothing here touches memory, a clock, a thread or a request: only block numbers come and go, and one thread calls.

Every operation on extents costs O(log n) comparisons, on groups O(log n) for each group it gains or loses, whatever
the number of blocks; growing inside a reserve is an addition. `check()`, O(n log n), is for tests and idle time.
"""

from allocator.compaction import Move
from allocator.errors import (
    AllocatorError,
    CopyPendingError,
    DuplicateOwnerError,
    InvariantError,
    MisuseError,
    NoRoomError,
    NotAllocatedError,
    NothingToCopyError,
    NotResidentError,
    OutOfBlocksError,
    SharedExtentError,
    UnknownOwnerError,
    UnknownTicketError,
)
from allocator.extents import Extent, ExtentPool
from allocator.groups import BlockGroups, GroupStatistics
from allocator.residency import BLOCK_TOKENS, DEVICE, HOST, KVMemory
from allocator.tickets import Direction, Ticket, copy_runs, slice_extents
from allocator.watermarks import Watermarks

__all__ = [
    "BLOCK_TOKENS",
    "DEVICE",
    "HOST",
    "AllocatorError",
    "BlockGroups",
    "CopyPendingError",
    "Direction",
    "DuplicateOwnerError",
    "Extent",
    "ExtentPool",
    "GroupStatistics",
    "InvariantError",
    "KVMemory",
    "MisuseError",
    "Move",
    "NoRoomError",
    "NotAllocatedError",
    "NotResidentError",
    "NothingToCopyError",
    "OutOfBlocksError",
    "SharedExtentError",
    "Ticket",
    "UnknownOwnerError",
    "UnknownTicketError",
    "Watermarks",
    "copy_runs",
    "slice_extents",
]
