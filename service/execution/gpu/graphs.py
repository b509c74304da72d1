"""Decode steps as captured work: a batch of single tokens is padded to the next size that was captured, and replayed.

A captured step reads and writes fixed memory, so all that changes from step to step stands there, and kernels decide by
shapes alone. Rows of padding have a slot and a block of their own, in which nothing means anything.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import TypeVar

import numpy as np

from service.execution.batch import Batch
from service.execution.draws import DrawInputs, Draws
from service.execution.gpu.runtime import Graph, Stream

Part = TypeVar("Part", Batch, DrawInputs)


def padded_sizes(num_slots: int) -> list[int]:
    """Batch sizes worth capturing, ascending: padding costs little where reading the weights is what takes time."""
    return sorted({size for size in (1, 2, 4, *range(8, num_slots, 8)) if size < num_slots} | {num_slots})


class DecodeGraphs:
    """Captured steps by batch size; none before `capture`."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._graphs: dict[int, Graph] = {}

    def capture(self, size: int, submit: Callable[[], None]) -> None:
        """Capture what ``submit`` submits. Raises CaptureError."""
        self._graphs[size] = self._stream.capture(submit)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Those that were captured."""
        return tuple(self._graphs)

    def size_for(self, batch: Batch, draws: Draws) -> int | None:
        """The least captured size that holds the step; None if none does, or the step is more than a plain decode."""
        rows = len(batch.slots)
        if draws.is_special or not rows == len(batch.input_ids) == len(batch.logits_indices):
            return None
        return min((size for size in self._graphs if size >= rows), default=None)

    def replay(self, size: int) -> None:
        """Submit the step of this size."""
        self._stream.replay(self._graphs[size])


@cache
def padding(size: int, slot: int, place: int) -> tuple[Batch, DrawInputs]:
    """A step of nothing but padding: ``size`` rows of one token at ``place``, in ``slot``. To be read only."""
    zeros, slots = np.zeros(size, np.int32), np.full(size, slot, np.int32)
    batch = Batch(
        slot_mapping=np.full(size, place, np.int64),
        input_ids=zeros,
        positions=zeros,
        slots=slots,
        query_start_loc=np.arange(size + 1, dtype=np.int32),
        seq_lens=np.ones(size, np.int32),
        logits_indices=np.arange(size, dtype=np.int32),
    )
    inputs = DrawInputs(
        positions=np.zeros(size, np.int64),
        seeds=np.zeros(size, np.uint64),
        slots=slots,
        temperature=np.zeros(size, np.float32),
        top_k=zeros,
        top_p=np.ones(size, np.float32),
        min_p=np.zeros(size, np.float32),
        reporting=np.empty(0, np.int32),
    )
    return batch, inputs


def padded(part: Part, filling: Part) -> Part:
    """Each of its arrays, and behind it what ``filling`` has there."""
    pairs = ((getattr(part, field.name), getattr(filling, field.name)) for field in fields(part))
    return type(part)(*(np.concatenate((array, fill[len(array) :])) for array, fill in pairs))
