"""The allocator knows which owner has which KV blocks: numbered pools, block groups, and where each node's KV is.

Read `residency` first: its `KVMemory` owns everything else. `nodes` are the shared prefixes, and the tails of sequences
that stand on them, with their `watermarks`; `groups` (with `holding`, one owner's blocks) gives the blocks of a pool to
owners; `extents` and `sizes` manage a pool's free space; `tickets` and `copies` are the copies in flight between two
pools; `compaction` chooses which groups to move.

Nothing here touches memory, a clock, a thread or a request: only block numbers go in and out. One thread calls. Every
operation on extents costs O(log n) comparisons, on groups O(log n) for each group gained or lost, whatever the number
of blocks; growing inside a reserve is an addition. `check()`, O(n log n), is for tests and idle time.
"""

from allocator.compaction import Move
from allocator.errors import (
    AllocatorError,
    CopyPendingError,
    DuplicateOwnerError,
    MisuseError,
    NotAllocatedError,
    NothingToCopyError,
    NotReservedError,
    NotResidentError,
    OutOfBlocksError,
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
    "KVMemory",
    "MisuseError",
    "Move",
    "NotAllocatedError",
    "NotReservedError",
    "NotResidentError",
    "NothingToCopyError",
    "OutOfBlocksError",
    "Ticket",
    "UnknownOwnerError",
    "UnknownTicketError",
    "Watermarks",
    "copy_runs",
    "slice_extents",
]
