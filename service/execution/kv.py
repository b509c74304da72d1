"""The memory of keys and values on a CPU: each pool is one array, and each of its blocks is contiguous."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from allocator import BLOCK_TOKENS, Extent
from service.execution.memory import Array
from service.execution.models.architecture import ModelConfig


def kv_pool_shape(config: ModelConfig, num_blocks: int) -> tuple[int, ...]:
    """Return the shape of a pool: ``[block, layer, k_or_v, kv_head, token, head_dim]``."""
    layers, k_or_v, kv_heads, head_dim = config.kv_shape
    return (num_blocks, layers, k_or_v, kv_heads, BLOCK_TOKENS, head_dim)


def kv_bytes_per_block(config: ModelConfig, dtype: DTypeLike = np.float32) -> int:
    """Return the bytes of one block: K and V of `BLOCK_TOKENS` tokens, all layers, in elements of ``dtype``."""
    return int(np.prod(kv_pool_shape(config, 1))) * np.dtype(dtype).itemsize


def allocate_kv_pool(config: ModelConfig, num_blocks: int) -> Array:
    """Return a pool of `kv_pool_shape` in float32, every page touched.

    Raises MemoryError now, rather than in the middle of a request, if the machine does not have the memory.
    """
    pool = np.empty(kv_pool_shape(config, num_blocks), np.float32)
    pool.fill(0)
    return pool


@dataclass(frozen=True, slots=True)
class KVPools:
    """Both pools, by the numbers that extents carry: `allocator.DEVICE` and `allocator.HOST`."""

    device: Array
    host: Array

    @classmethod
    def allocate(cls, config: ModelConfig, device_blocks: int, host_blocks: int = 0) -> "KVPools":
        """Allocate both pools. Raises MemoryError."""
        return cls(allocate_kv_pool(config, device_blocks), allocate_kv_pool(config, host_blocks))

    def __getitem__(self, pool: int) -> Array:
        return (self.device, self.host)[pool]

    def poison(self, extents: Iterable[Extent]) -> None:
        """Fill blocks with NaN, which makes every sum NaN."""
        for extent in extents:
            self[extent.pool][extent.start : extent.end] = np.nan
