"""The host's pool of KV: blocks in page-locked chunks, pinned once at start and each tried before use.

Its blocks have the bytes of the device's, in the same order. Plans and tickets decide who may write a block, and when.
All of it is page-locked: nothing falls back on pageable memory.
"""

import os
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from service.errors import DeviceLostError, PinnedMemoryError
from service.execution.gpu.runtime import Array, Bytes, Runtime, Stream

CHUNK_BYTES = 1 << 30  # small enough for the host to find, and large enough that few copies are split between two


class PinnedPool:
    """``num_blocks`` blocks of shape ``block`` in bytes, in chunks of whole blocks. Raises PinnedMemoryError."""

    def __init__(
        self, runtime: Runtime, num_blocks: int, block: tuple[int, ...], chunk_bytes: int = CHUNK_BYTES
    ) -> None:
        self.num_blocks = num_blocks
        self._device = runtime.info.device
        self._block_bytes = int(np.prod(block))
        self._per_chunk = max(1, chunk_bytes // self._block_bytes)
        self._chunks: list[Bytes] = []
        for start, end in pairwise([*range(0, num_blocks, self._per_chunk), num_blocks]):
            self._chunks.append(self._pin(runtime, end - start).reshape(-1, *block))

    def arrays(self, start: int, length: int) -> Iterator[Bytes]:
        """Yield these blocks as contiguous arrays [blocks, *block], one of each chunk. Raises ValueError."""
        end = start + length
        if not 0 <= start <= end <= self.num_blocks:
            raise ValueError(f"blocks {start} to {end} of a pool of {self.num_blocks}")
        while start < end:
            chunk, first = divmod(start, self._per_chunk)
            array = self._chunks[chunk][first : first + end - start]
            yield array
            start += len(array)

    def verify(self, stream: Stream, scratch: Array) -> None:
        """Have the device read and write the first and last block of each chunk; ``scratch`` is a block on the device.

        Memory that could be pinned does not always work. Raises PinnedMemoryError.
        """
        for number, chunk in enumerate(self._chunks):
            for block in (0, len(chunk) - 1):
                where = f"block {block} of {len(chunk)} in chunk {number + 1} of {len(self._chunks)}"
                try:
                    kept = _keeps(chunk[block], 1 + number % 255, stream, scratch)
                except DeviceLostError:
                    raise
                except Exception as error:
                    raise self._error(f"{where} cannot be copied: {error}", *host_memory()) from error
                if not kept:
                    raise self._error(f"{where} does not keep what is written to it", *host_memory())

    def _pin(self, runtime: Runtime, num_blocks: int) -> Bytes:
        try:
            return runtime.pinned(num_blocks * self._block_bytes)
        except PinnedMemoryError as error:
            why = f"a chunk of {num_blocks} blocks was refused"
            raise self._error(why, error.free, error.total) from error

    def _error(self, why: str, free: int, total: int) -> PinnedMemoryError:
        asked, pinned = self.num_blocks * self._block_bytes, sum(chunk.nbytes for chunk in self._chunks)
        return PinnedMemoryError(why, device=self._device, asked=asked, pinned=pinned, free=free, total=total)


def host_memory() -> tuple[int, int]:
    """Return the bytes of the host's memory: free, total."""
    page = os.sysconf("SC_PAGE_SIZE")
    return os.sysconf("SC_AVPHYS_PAGES") * page, os.sysconf("SC_PHYS_PAGES") * page


def _keeps(block: Bytes, byte: int, stream: Stream, scratch: Array) -> bool:
    """Return whether a block comes back from the device as it went there."""
    block.fill(byte)
    stream.copy(block, scratch)
    stream.record().wait()
    block.fill(0)
    stream.copy(scratch, block)
    stream.record().wait()
    return bool((block == byte).all())
