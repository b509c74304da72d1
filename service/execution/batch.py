"""From a plan's rows to the arrays that the model reads.

The batcher knows each slot's block table as the model's side has it, or will when the changes sent so far arrive. It
expands a table again only when the plan brings another tuple of extents, and sends only the entries that differ. The
token drawn last is named by its slot, because its value may not be known here yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allocator import BLOCK_TOKENS, Extent
from service.core.messages.plan import Row, SlotOpening
from service.execution.bundles import array
from service.execution.memory import Array, Kernels, Memory

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """The inputs of one forward pass; a *row* is a sequence's query tokens. The arrays' names are vLLM's.

    They are arrays of the host, or of the device that runs the pass.
    """

    slot_mapping: Longs = array(np.int64, "tokens")  # the token's index in the pool: block * BLOCK_TOKENS + offset
    input_ids: Ints = array(np.int32, "tokens")  # -1 - slot stands for the token drawn last in that slot
    positions: Ints = array(np.int32, "tokens")
    slots: Ints = array(np.int32, "rows")  # of the batch, not of the pool
    query_start_loc: Ints = array(np.int32, "rows", plus=1)  # row r has tokens query_start_loc[r : r + 2]
    seq_lens: Ints = array(np.int32, "rows")  # tokens of the sequence, the queries included
    logits_indices: Ints = array(np.int32, "draws")  # the tokens after which one is drawn


@dataclass(frozen=True, slots=True)
class TableChanges:
    """Entries of block tables that differ from those of the step before, by their index in the flattened array."""

    entries: Ints = array(np.int32, "changes")  # slot * max_blocks + index of the block in its sequence
    blocks: Ints = array(np.int32, "changes")


@dataclass(frozen=True, slots=True)
class SlotMemory:
    """What stays between steps besides KV, in the memory where the model runs."""

    block_tables: Array  # [slots, max_blocks] int32
    last: Array  # [slots] int32: the token drawn last

    @classmethod
    def allocate(cls, memory: Memory, num_slots: int, max_blocks: int) -> "SlotMemory":
        """Return arrays of zeros, which is what the batcher takes them for."""
        return cls(memory.zeros((num_slots, max_blocks), np.int32), memory.zeros((num_slots,), np.int32))

    def change(self, changes: TableChanges, kernels: Kernels) -> None:
        """Bring the block tables up to date; ``changes`` are arrays of this memory."""
        kernels.put_tokens(changes.blocks, changes.entries, self.block_tables.reshape(-1))


class Batcher:
    """Builds batches of rows in ``num_slots`` slots; a sequence has at most ``max_blocks`` blocks."""

    def __init__(self, num_slots: int, max_blocks: int) -> None:
        self._block_tables = np.zeros((num_slots, max_blocks), np.int32)
        self._extents: list[tuple[Extent, ...] | None] = [None] * num_slots
        self._drawn = -1 - np.arange(num_slots, dtype=np.int32)
        self._inputs = self._drawn.copy()  # of each slot's next decode

    def open(self, opening: SlotOpening) -> None:
        """Note that the next decode of a request's slot begins with its last token."""
        self._inputs[opening.slot] = opening.last_token

    def forget(self) -> None:
        """Forget the block tables, because it is unknown which changes arrived: each is sent whole at its next use."""
        self._block_tables.fill(-1)
        self._extents = [None] * len(self._extents)

    def build(self, rows: Sequence[Row]) -> tuple[Batch, TableChanges]:
        """Return the arrays for a plan's rows, in their order, and the changes of block tables that come first."""
        changes = self._expand_all(rows)
        counts = np.array([row.num_tokens for row in rows], np.int32)
        starts = np.array([row.start for row in rows], np.int32)
        slots = np.array([row.slot for row in rows], np.int32)
        query_start_loc = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        positions = np.arange(query_start_loc[-1], dtype=np.int32) + np.repeat(starts - query_start_loc[:-1], counts)
        blocks = self._block_tables[np.repeat(slots, counts), positions // BLOCK_TOKENS].astype(np.int64)
        draws = np.array([row.draws_token for row in rows], np.bool_)
        batch = Batch(
            slot_mapping=blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS,
            input_ids=self._input_ids(rows, query_start_loc),
            positions=positions,
            slots=slots,
            query_start_loc=query_start_loc,
            seq_lens=starts + counts,
            logits_indices=query_start_loc[1:][draws] - 1,
        )
        self._inputs[slots[draws]] = self._drawn[slots[draws]]
        return batch, changes

    def _input_ids(self, rows: Sequence[Row], query_start_loc: Ints) -> Ints:
        input_ids = np.empty(query_start_loc[-1], np.int32)
        for row, begin, end in zip(rows, query_start_loc[:-1], query_start_loc[1:], strict=True):
            input_ids[begin:end] = self._inputs[row.slot] if row.tokens is None else row.tokens
        return input_ids

    def _expand_all(self, rows: Sequence[Row]) -> TableChanges:
        changed = [self._expand(row) for row in rows if self._extents[row.slot] is not row.extents]
        entries = np.concatenate([np.empty(0, np.int32), *changed])
        return TableChanges(entries, self._block_tables.reshape(-1)[entries])

    def _expand(self, row: Row) -> Ints:
        """Bring a slot's table up to date and return the entries that changed."""
        self._extents[row.slot] = row.extents
        blocks = np.concatenate([np.arange(extent.start, extent.end, dtype=np.int32) for extent in row.extents])
        table = self._block_tables[row.slot, : len(blocks)]
        changed = np.flatnonzero(table != blocks)
        table[:] = blocks
        return (row.slot * self._block_tables.shape[1] + changed).astype(np.int32)
