"""The memory of keys and values on a CPU: each pool is one array, and each of its blocks is contiguous."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from allocator import BLOCK_TOKENS, Extent
from service.execution.memory import Array
from service.execution.models.architecture import ModelConfig

BFLOAT16_NAN = 0x7FC0


@dataclass(frozen=True, slots=True)
class KVFormat:
    """How a pool's blocks are laid: ``[block, layer, k_or_v, kv_head, token, head_dim]``.

    ``dtype``: float32, or uint16 for the bits of bfloat16, which NumPy does not know. Inside a head, the compiled step
    has an order of its own, and pads ``head_dim`` to a multiple of 16.
    """

    layers: int
    kv_heads: int
    head_dim: int
    dtype: np.dtype[Any]

    @classmethod
    def plain(cls, config: ModelConfig, dtype: DTypeLike = np.float32) -> "KVFormat":
        """Return the format that `kernels.reference` defines."""
        layers, _, kv_heads, head_dim = config.kv_shape
        return cls(layers, kv_heads, head_dim, np.dtype(dtype))

    @classmethod
    def padded(cls, config: ModelConfig, name: str) -> "KVFormat":
        """Return the format of a compiled step; ``name``: bfloat16 or float32."""
        layers, _, kv_heads, head_dim = config.kv_shape
        dtype = np.dtype(np.uint16 if name == "bfloat16" else np.float32)
        return cls(layers, kv_heads, -(-head_dim // 16) * 16, dtype)

    def shape(self, num_blocks: int) -> tuple[int, ...]:
        """Return the shape of a pool."""
        return (num_blocks, self.layers, 2, self.kv_heads, BLOCK_TOKENS, self.head_dim)

    @property
    def block_bytes(self) -> int:
        """The bytes of one block: K and V of `BLOCK_TOKENS` tokens in all layers."""
        return int(np.prod(self.shape(1))) * self.dtype.itemsize

    def allocate(self, num_blocks: int) -> Array:
        """Return a pool, every page touched.

        Raises MemoryError now, rather than in the middle of a request, if the machine does not have the memory.
        """
        size = num_blocks * self.block_bytes
        memory = np.empty(size + 64, np.uint8)
        memory.fill(0)
        first = -memory.ctypes.data % 64  # the compiled step loads whole cache lines
        return memory[first : first + size].view(self.dtype).reshape(self.shape(num_blocks))


def kv_pool_shape(config: ModelConfig, num_blocks: int) -> tuple[int, ...]:
    """Return the shape of a pool of the plain format."""
    return KVFormat.plain(config).shape(num_blocks)


def kv_bytes_per_block(config: ModelConfig, dtype: DTypeLike = np.float32) -> int:
    """Return the bytes of one block of the plain format, in elements of ``dtype``."""
    return KVFormat.plain(config, dtype).block_bytes


def allocate_kv_pool(config: ModelConfig, num_blocks: int) -> Array:
    """Return a pool of the plain format in float32. Raises MemoryError."""
    return KVFormat.plain(config).allocate(num_blocks)


@dataclass(frozen=True, slots=True)
class KVPools:
    """Both pools, by the numbers that extents carry: `allocator.DEVICE` and `allocator.HOST`."""

    kv_format: KVFormat
    device: Array
    host: Array

    @classmethod
    def allocate(cls, kv_format: KVFormat, device_blocks: int, host_blocks: int = 0) -> "KVPools":
        """Allocate both pools. Raises MemoryError."""
        return cls(kv_format, kv_format.allocate(device_blocks), kv_format.allocate(host_blocks))

    @classmethod
    def plain(cls, config: ModelConfig, device_blocks: int, host_blocks: int = 0) -> "KVPools":
        """Allocate both pools in float32, for dense weights. Raises MemoryError."""
        return cls.allocate(KVFormat.plain(config), device_blocks, host_blocks)

    def __getitem__(self, pool: int) -> Array:
        return (self.device, self.host)[pool]

    def poison(self, extents: Iterable[Extent]) -> None:
        """Fill blocks with NaN, which makes every sum NaN."""
        for extent in extents:
            pool = self[extent.pool]
            pool[extent.start : extent.end] = np.nan if pool.dtype == np.float32 else BFLOAT16_NAN
