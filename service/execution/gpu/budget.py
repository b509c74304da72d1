"""How many blocks of KV a device has room for: what it has, less what all the rest takes. Arithmetic alone.

The share that may be taken counts what others hold already, so that (1 - share) of the device stays free whoever is
there. It is for what no number here stands for: code, the libraries' own memory, fragments.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from allocator import BLOCK_TOKENS
from service.errors import DeviceMemoryError, readable


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Of one device, in bytes, before anything is taken.

    ``needs``: what is taken beside KV, by what for. ``block_bytes``: a block of KV; ``spare_blocks`` are taken beside
    those that hold anybody's.
    """

    device: str
    free_bytes: int
    total_bytes: int
    needs: Mapping[str, int]
    block_bytes: int
    spare_blocks: int = 0

    def blocks(self, utilization: float) -> int:
        """Blocks that fit when ``utilization`` (0 to 1) of the device may be taken. Raises DeviceMemoryError."""
        allowed = max(0, int(utilization * self.total_bytes) - (self.total_bytes - self.free_bytes))
        blocks = (allowed - self._taken(0)) // self.block_bytes
        if blocks < 1:
            raise self._error(
                1, f"more than the {readable(allowed)} that --gpu-memory-utilization {utilization:g} leaves"
            )
        return blocks

    def require(self, blocks: int) -> None:
        """Raise DeviceMemoryError if so many blocks do not fit into what is free."""
        if self._taken(blocks) > self.free_bytes:
            raise self._error(blocks, "more than there is")

    def _taken(self, blocks: int) -> int:
        return sum(self.needs.values()) + (blocks + self.spare_blocks) * self.block_bytes

    def _error(self, blocks: int, comparison: str) -> DeviceMemoryError:
        kv = self.block_bytes * (blocks + self.spare_blocks)
        parts = {**self.needs, f"KV of {BLOCK_TOKENS * blocks} tokens": kv}
        what = ", ".join(f"{name} {readable(size)}" for name, size in parts.items())
        sizes = {"asked": self._taken(blocks), "free": self.free_bytes, "total": self.total_bytes}
        return DeviceMemoryError(self.device, **sizes, why=f"{what} are {comparison}")
