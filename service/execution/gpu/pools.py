"""Both pools of KV: one array on the device, page-locked chunks on the host.

They are allocated once, at start, and kept for ever. Plans and tickets decide who may write a block, and when. The
device has one block that the allocator does not know, the last: the *scrap block*, to which rows of padding write.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import DTypeLike

from allocator import DEVICE, Direction, Extent, Ticket, copy_runs
from service.execution.gpu.pinned_pool import CHUNK_BYTES, PinnedPool
from service.execution.gpu.runtime import Array, Runtime, Stream
from service.execution.kv import kv_bytes_per_block, kv_pool_shape
from service.execution.models.architecture import ModelConfig

Copy = tuple[Array, Array]  # source and destination: contiguous, of as many bytes


class GPUPools:
    """``device`` is a pool of `kv_pool_shape` in ``dtype``, with the scrap block; ``host`` has as many bytes a block.

    The device's pool begins as zeros. Raises DeviceMemoryError and PinnedMemoryError.
    """

    def __init__(
        self,
        runtime: Runtime,
        config: ModelConfig,
        dtype: DTypeLike,
        *,
        device_blocks: int,
        host_blocks: int,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.scrap_block = device_blocks
        shape = kv_pool_shape(config, device_blocks + 1)
        _, layers, sides, *_ = shape
        side_bytes = kv_bytes_per_block(config, dtype) // (layers * sides)
        with runtime.bound():
            self.device = runtime.zeros(shape, dtype)
            self.host = PinnedPool(runtime, host_blocks, (layers, sides, side_bytes), chunk_bytes)
            self.host.verify(runtime.stream(), self.device[self.scrap_block])

    def copies(self, ticket: Ticket) -> Iterator[Copy]:
        """Yield the contiguous copies of a ticket: one for each overlap of extents of both sides within a chunk."""
        out = ticket.direction is Direction.OUT
        for source, destination, length in copy_runs(ticket.source, ticket.destination):
            start, host_start = (source, destination) if out else (destination, source)
            for host in self.host.arrays(host_start, length):
                device = self.device[start : start + len(host)]
                yield (device, host) if out else (host, device)
                start += len(host)

    def copies_by_layer(self, ticket: Ticket) -> Iterator[Copy]:
        """Yield as many copies as a layout split by layer needs: one a block, layer and side (K or V)."""
        for source, destination in self.copies(ticket):
            for index in np.ndindex(destination.shape[:3]):
                yield source[index], destination[index]

    def poison(self, extents: Iterable[Extent], stream: Stream) -> None:
        """Fill blocks with NaN: the device's in the order of ``stream``, the host's at once."""
        for extent in extents:
            if extent.pool == DEVICE:
                stream.fill(self.device[extent.start : extent.end], 0xFF)
            else:
                for array in self.host.arrays(extent.start, extent.length):
                    array.fill(0xFF)
