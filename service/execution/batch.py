"""From a plan's rows to the arrays that the model reads.

Per slot it keeps the token last drawn, the next decode's input, and the block table, expanded again only when
the plan brings another tuple of extents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from allocator import Extent
from service.core.plan import Row, SlotOpening
from service.execution.kv import BLOCK_TOKENS

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass. A *row* is a sequence's query tokens, a *place* a token's number in the KV pool."""

    tokens: Ints  # [tokens] ids
    positions: Ints  # [tokens]
    places: Longs  # [tokens] block * BLOCK_TOKENS + offset
    slots: Ints  # [rows]
    query_starts: Ints  # [rows + 1] row r's tokens are query_starts[r] : query_starts[r + 1]
    lengths: Ints  # [rows] tokens of the sequence, the queries included
    block_tables: Ints  # [slots, max_blocks]
    sampling: Ints  # [samples] indices of the tokens after which one is drawn


class Batcher:
    """Builds batches; owns the slots' block tables and next tokens."""

    def __init__(self, num_slots: int, max_blocks: int) -> None:
        self._block_tables = np.zeros((num_slots, max_blocks), np.int32)
        self._extents: list[tuple[Extent, ...] | None] = [None] * num_slots
        self._next_tokens = np.zeros(num_slots, np.int32)

    def open(self, opening: SlotOpening) -> None:
        """Forget what the slot held."""
        self._extents[opening.slot] = None
        self._next_tokens[opening.slot] = opening.tokens[-1]

    def set_next_token(self, slot: int, token: int) -> None:
        """Remember the token drawn for a slot."""
        self._next_tokens[slot] = token

    def build(self, rows: Sequence[Row]) -> Batch:
        """The arrays for a plan's rows, in their order."""
        for row in rows:
            self._expand(row)
        counts = np.array([row.num_tokens for row in rows], np.int32)
        starts = np.array([row.start for row in rows], np.int32)
        slots = np.array([row.slot for row in rows], np.int32)
        query_starts = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        positions = np.arange(query_starts[-1], dtype=np.int32) + np.repeat(starts - query_starts[:-1], counts)
        blocks = self._block_tables[np.repeat(slots, counts), positions // BLOCK_TOKENS].astype(np.int64)
        return Batch(
            tokens=self._input_tokens(rows, query_starts),
            positions=positions,
            places=blocks * BLOCK_TOKENS + positions % BLOCK_TOKENS,
            slots=slots,
            query_starts=query_starts,
            lengths=starts + counts,
            block_tables=self._block_tables,
            sampling=query_starts[1:][[row.samples for row in rows]] - 1,
        )

    def _expand(self, row: Row) -> None:
        if self._extents[row.slot] is row.extents:
            return
        self._extents[row.slot] = row.extents
        end = 0
        for extent in row.extents:
            self._block_tables[row.slot, end : end + extent.length] = np.arange(extent.start, extent.end)
            end += extent.length

    def _input_tokens(self, rows: Sequence[Row], query_starts: Ints) -> Ints:
        tokens = np.empty(query_starts[-1], np.int32)
        for row, begin, end in zip(rows, query_starts[:-1], query_starts[1:], strict=True):
            tokens[begin:end] = self._next_tokens[row.slot] if row.tokens is None else row.tokens
        return tokens
