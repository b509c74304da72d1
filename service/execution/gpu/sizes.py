"""What a step's arrays take on the device and in page-locked memory: worked out before anything is taken."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from allocator import BLOCK_TOKENS
from service.core.messages.sampling import MAX_LOGPROBS
from service.core.switching.compaction import BLOCKS_A_STEP
from service.execution.batch import Batch, SlotMemory, TableChanges
from service.execution.bundles import layout
from service.execution.draw_outputs import DrawOutputs
from service.execution.draws import DrawInputs
from service.execution.gpu.packing import packed_bytes
from service.execution.model import Workspace, rotary_tables
from service.execution.models.architecture import ModelConfig
from service.execution.sampler import Sampler

WRITTEN_BYTES = 8 << 20  # a step's writes for requests that begin with penalties: 10 of a vocabulary of 152,064
MERGE_FLOATS = 2  # beside a head's sums, what joining the splits of attention needs


@dataclass(frozen=True, slots=True)
class StepSizes:
    """Of a runner over ``num_blocks`` blocks, its padding slot not counted."""

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
        """Of a batch; a padded one has a token a slot."""
        return max(self.max_batched_tokens, self.num_slots)

    @property
    def scratch_floats(self) -> int:
        """For attention's splits: a decode of every slot at once, or of few with splits for all processors."""
        config = self.config
        at_once = max(self.num_slots, -(-4 * self.processors // config.num_kv_heads))
        return at_once * config.num_heads * (config.head_dim + MERGE_FLOATS)

    @property
    def _largest_step(self) -> dict[str, int]:
        slots = self.num_slots
        return {"tokens": self.max_tokens, "rows": slots, "draws": slots, "reports": slots}

    @property
    def input_bytes(self) -> int:
        """Of a step's inputs. A block has one owner, so no more entries of tables change than there are blocks."""
        changes = min(self.num_blocks, self.num_slots * self.max_blocks)
        sizes = {**self._largest_step, "changes": changes}
        fields = [field for bundle in (Batch, DrawInputs, TableChanges) for field in layout(bundle, sizes)]
        return packed_bytes((*fields, ((BLOCKS_A_STEP, 3), np.int64)))

    @property
    def output_bytes(self) -> int:
        """Of a step's outputs."""
        return packed_bytes(layout(DrawOutputs, {**self._largest_step, "alternatives": MAX_LOGPROBS}))

    @property
    def entry_bytes(self) -> tuple[int, int, int]:
        """Page-locked, of each step under way: for writes, for what it is told, for what comes of it."""
        return WRITTEN_BYTES, self.input_bytes, self.output_bytes

    def needs(self, dtype: DTypeLike) -> dict[str, int]:
        """All that a `GPURunner` takes on the device, in bytes, by what for; ``dtype`` of the activations."""
        slots, workspace = _Counted(), _Counted()
        SlotMemory.allocate(slots, self.num_slots + 1, self.max_blocks)
        Sampler(self.num_slots, self.config.vocab_size, None, slots)
        Workspace.allocate(workspace, self.config, self.max_tokens, self.num_slots, dtype)
        return {
            "activations": workspace.num_bytes,
            "slots": slots.num_bytes,
            "rotary tables": sum(table.nbytes for table in rotary_tables(self.config, self.max_positions)),
            "attention": self.scratch_floats * np.dtype(np.float32).itemsize,
            "messages": self.input_bytes + self.output_bytes,
        }


class _Counted:
    """A `Memory` that takes none, and counts."""

    def __init__(self) -> None:
        self.num_bytes = 0

    def zeros(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        self.num_bytes += prod(shape) * np.dtype(dtype).itemsize
        return np.broadcast_to(np.zeros((), dtype), shape)

    def write(self, values: NDArray[Any], out: NDArray[Any]) -> None:
        """Nothing is there to write to."""

    def copy(self, source: NDArray[Any], out: NDArray[Any]) -> None:
        """Nor to copy."""
