"""From a plan's rows to the arrays that the model reads.

The batcher knows each slot's block table as the model's side has it, or will when the changes sent so far arrive. It
expands a table again only when the plan brings another tuple of extents, and sends only the entries that differ. The
token drawn last is named by its slot, because its value may not be known here yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


NO_CHANGES = TableChanges(np.empty(0, np.int32), np.empty(0, np.int32))


@dataclass(frozen=True, slots=True)
class _Decodes:
    """A batch whose rows all decode and draw, in these slots, and the inputs of their next decodes."""

    slots: list[int]
    input_ids: Ints
    batch: Batch


def _decoding(rows: Sequence[Row]) -> list[int] | None:
    """Return the slots of the rows if all of them decode and draw."""
    return [row.slot for row in rows] if all(row.tokens is None and row.draws_token for row in rows) else None


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
        if changes is NO_CHANGES:
            return
        kernels.put_tokens(changes.blocks, changes.entries, self.block_tables.reshape(-1))


class Batcher:
    """Builds batches of rows in ``num_slots`` slots; a sequence has at most ``max_blocks`` blocks."""

    def __init__(self, num_slots: int, max_blocks: int) -> None:
        self._block_tables = np.zeros((num_slots, max_blocks), np.int32)
        self._extents: list[tuple[Extent, ...] | None] = [None] * num_slots
        self._drawn = -1 - np.arange(num_slots, dtype=np.int32)
        self._inputs = self._drawn.copy()  # of each slot's next decode
        self._latest: _Decodes | None = None  # if the rows of the batch before decode again, most arrays are its own

    def open(self, opening: SlotOpening) -> None:
        """Note that the next decode of a request's slot begins with its last token."""
        self._inputs[opening.slot] = opening.last_token
        self._latest = None

    def forget(self) -> None:
        """Forget the block tables, because it is unknown which changes arrived: each is sent whole at its next use."""
        self._block_tables.fill(-1)
        self._extents = [None] * len(self._extents)

    def build(self, rows: Sequence[Row]) -> tuple[Batch, TableChanges]:
        """Return the arrays for a plan's rows, in their order, and the changes of block tables that come first."""
        changes = self._expand_all(rows)
        slots = _decoding(rows)
        if self._latest is None or slots is None or slots != self._latest.slots:
            batch = self._build(rows)
            self._latest = None if slots is None else _Decodes(slots, self._drawn[batch.slots], batch)
        else:
            batch = self._following(self._latest, rows)
        return batch, changes

    def _following(self, latest: "_Decodes", rows: Sequence[Row]) -> Batch:
        """Return the batch of rows that decode after all of them did, so that each input was drawn in its slot."""
        positions = np.array([row.start for row in rows], np.int32)
        return replace(
            latest.batch,
            slot_mapping=self._slot_mapping(latest.batch.slots, positions),
            input_ids=latest.input_ids,
            positions=positions,
            seq_lens=positions + np.int32(1),
        )

    def _slot_mapping(self, slots: Ints, positions: Ints) -> Longs:
        blocks = self._block_tables[slots, positions // BLOCK_TOKENS].astype(np.int64)
        return blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS

    def _build(self, rows: Sequence[Row]) -> Batch:
        counts = np.array([row.num_tokens for row in rows], np.int32)
        starts = np.array([row.start for row in rows], np.int32)
        slots = np.array([row.slot for row in rows], np.int32)
        query_start_loc = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        positions = np.arange(query_start_loc[-1], dtype=np.int32) + np.repeat(starts - query_start_loc[:-1], counts)
        draws = np.array([row.draws_token for row in rows], np.bool_)
        batch = Batch(
            slot_mapping=self._slot_mapping(np.repeat(slots, counts), positions),
            input_ids=self._input_ids(rows, query_start_loc),
            positions=positions,
            slots=slots,
            query_start_loc=query_start_loc,
            seq_lens=starts + counts,
            logits_indices=query_start_loc[1:][draws] - 1,
        )
        self._inputs[slots[draws]] = self._drawn[slots[draws]]
        return batch

    def _input_ids(self, rows: Sequence[Row], query_start_loc: Ints) -> Ints:
        input_ids = np.empty(query_start_loc[-1], np.int32)
        for row, begin, end in zip(rows, query_start_loc[:-1], query_start_loc[1:], strict=True):
            input_ids[begin:end] = self._inputs[row.slot] if row.tokens is None else row.tokens
        return input_ids

    def _expand_all(self, rows: Sequence[Row]) -> TableChanges:
        changed = [self._expand(row) for row in rows if self._extents[row.slot] is not row.extents]
        if not changed:
            return NO_CHANGES
        entries = np.concatenate(changed)
        return TableChanges(entries, self._block_tables.reshape(-1)[entries])

    def _expand(self, row: Row) -> Ints:
        """Bring a slot's table up to date and return the entries that changed."""
        self._extents[row.slot] = row.extents
        blocks = np.concatenate([np.arange(extent.start, extent.end, dtype=np.int32) for extent in row.extents])
        table = self._block_tables[row.slot, : len(blocks)]
        changed = np.flatnonzero(table != blocks)
        table[:] = blocks
        return (row.slot * self._block_tables.shape[1] + changed).astype(np.int32)
