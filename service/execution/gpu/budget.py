"""How much of a device a runner takes, and how many blocks of KV the rest holds: worked out before anything is taken.

The share of the device that may be taken counts what others hold already, so that (1 - share) stays free for what no
number here counts: code, the libraries' own memory, fragments.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from allocator import BLOCK_TOKENS
from service.core.messages.sampling import MAX_LOGPROBS
from service.core.switching.compaction import BLOCKS_A_STEP
from service.errors import DeviceMemoryError, readable
from service.execution.batch import SlotMemory
from service.execution.gpu.step_memory import StepShape
from service.execution.model import Workspace, rotary_tables
from service.execution.models.architecture import ModelConfig
from service.execution.sampler import Sampler

MERGE_FLOATS = 2  # beside a head's sums, what joining the splits of attention needs


@dataclass(frozen=True, slots=True)
class StepSizes:
    """The largest sizes of a runner's steps over ``num_blocks`` blocks; its padding slot is not counted."""

    config: ModelConfig
    num_blocks: int
    num_slots: int
    max_batched_tokens: int
    processors: int  # of the device

    @property
    def max_positions(self) -> int:
        """Tokens of the longest sequence."""
        return min(self.config.max_position_embeddings, self.num_blocks * BLOCK_TOKENS)

    @property
    def max_blocks(self) -> int:
        """Blocks of the longest sequence."""
        return -(-self.max_positions // BLOCK_TOKENS)

    @property
    def max_tokens(self) -> int:
        """Tokens of the largest batch; a padded one has a token a slot."""
        return max(self.max_batched_tokens, self.num_slots)

    @property
    def scratch_floats(self) -> int:
        """Scratch of attention's splits: for a decode of every slot at once, or of few split over all processors."""
        config = self.config
        at_once = max(self.num_slots, -(-4 * self.processors // config.num_kv_heads))
        return at_once * config.num_heads * (config.head_dim + MERGE_FLOATS)

    @property
    def largest_step(self) -> StepShape:
        """The largest size of each axis. A block has one owner, so table entries change for each block at most once."""
        slots, changes = self.num_slots, min(self.num_blocks, self.num_slots * self.max_blocks)
        return StepShape(self.max_tokens, slots, slots, slots, slots, MAX_LOGPROBS, changes, BLOCKS_A_STEP)

    def needs(self, dtype: DTypeLike) -> dict[str, int]:
        """Return all that a `GPURunner` takes on the device, in bytes, by purpose; activations are of ``dtype``."""
        slots, workspace = _CountingMemory(), _CountingMemory()
        SlotMemory.allocate(slots, self.num_slots + 1, self.max_blocks)
        Sampler(self.num_slots, self.config.vocab_size, None, slots)
        Workspace.allocate(workspace, self.config, self.max_tokens, self.num_slots, dtype)
        return {
            "activations": workspace.num_bytes,
            "slots": slots.num_bytes,
            "rotary tables": sum(table.nbytes for table in rotary_tables(self.config, self.max_positions)),
            "attention": self.scratch_floats * np.dtype(np.float32).itemsize,
            "messages": self.largest_step.input_bytes + self.largest_step.output_bytes,
        }


class _CountingMemory:
    """A `Memory` that counts bytes instead of allocating them."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        self.num_bytes += prod(shape) * np.dtype(dtype).itemsize
        return np.broadcast_to(np.zeros((), dtype), shape)

    def write(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        """Do nothing."""

    def copy(self, source: NDArray[Any], out: NDArray[Any]) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """The memory of one device, in bytes, before anything is taken.

    ``needs``: what is taken besides KV, by purpose. ``block_bytes``: a block of KV; ``spare_blocks`` are taken besides
    those that hold a sequence's.
    """

    device: str
    free_bytes: int
    total_bytes: int
    needs: Mapping[str, int]
    block_bytes: int
    spare_blocks: int = 0

    def blocks(self, utilization: float) -> int:
        """Return how many blocks fit when ``utilization`` (0 to 1) of the device may be taken.

        Raises DeviceMemoryError if none does.
        """
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
