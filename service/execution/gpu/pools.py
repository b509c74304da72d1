"""Both memories of keys and values: one array on the device, page-locked chunks on the host.

Taken once, at start, and kept for ever; who may write a block, and when, is the affair of plans and tickets. The device
has one block more than the allocator knows, the last: the *scrap block*, where padding rows of a captured step write.
"""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import DTypeLike

from allocator import DEVICE, Direction, Extent, Ticket, copy_runs
from service.execution.gpu.pinned_pool import CHUNK_BYTES, PinnedPool
from service.execution.gpu.runtime import Array, Runtime, Stream
from service.execution.kv import kv_bytes_per_block, kv_pool_shape
from service.execution.models.architecture import ModelConfig

Piece = tuple[Array, Array]  # source and destination: contiguous, of as many bytes


class GPUPools:
    """``device``: a pool of `kv_pool_shape` in ``dtype`` and the scrap block, zeroed; ``host``: as many bytes a block.

    Raises DeviceMemoryError and PinnedMemoryError.
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

    def pieces(self, ticket: Ticket) -> Iterator[Piece]:
        """The contiguous copies of a ticket: where its extents of both sides overlap, cut where chunks end."""
        out = ticket.direction is Direction.OUT
        for source, destination, length in copy_runs(ticket.source, ticket.destination):
            start, host_start = (source, destination) if out else (destination, source)
            for host in self.host.pieces(host_start, length):
                device = self.device[start : start + len(host)]
                yield (device, host) if out else (host, device)
                start += len(host)

    def pieces_by_layer(self, ticket: Ticket) -> Iterator[Piece]:
        """The same in as many copies as a layout split by layer needs: one a block, layer and side (K or V)."""
        for source, destination in self.pieces(ticket):
            for index in np.ndindex(destination.shape[:3]):
                yield source[index], destination[index]

    def poison(self, extents: Iterable[Extent], stream: Stream) -> None:
        """Fill blocks with NaN, which no sum survives: the device's in ``stream``'s order, the host's at once."""
        for extent in extents:
            if extent.pool == DEVICE:
                stream.fill(self.device[extent.start : extent.end], 0xFF)
            else:
                for piece in self.host.pieces(extent.start, extent.length):
                    piece.fill(0xFF)
