"""Decode steps as captured work: a batch of single tokens is padded to the next captured size, and replayed.

A captured step reads and writes fixed memory: all that changes from step to step stands in this memory, and kernels
choose by shapes alone. Rows of padding have a slot and a block of their own, whose contents are never used.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import TypeVar

import numpy as np

from service.execution.batch import Batch
from service.execution.draws import DrawInputs, Draws
from service.execution.gpu.runtime import Graph, Stream

Padded = TypeVar("Padded", Batch, DrawInputs)


def padded_sizes(num_slots: int) -> list[int]:
    """Return the batch sizes to capture, ascending: padding is cheap, because a step's time goes to reading weights."""
    return sorted({size for size in (1, 2, 4, *range(8, num_slots, 8)) if size < num_slots} | {num_slots})


class DecodeGraphs:
    """The captured steps, by batch size."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._graphs: dict[int, Graph] = {}

    def capture(self, size: int, submit: Callable[[], None]) -> None:
        """Capture what ``submit`` submits as the step of this size. Raises CaptureError."""
        self._graphs[size] = self._stream.capture(submit)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The captured batch sizes."""
        return tuple(self._graphs)

    def size_for(self, batch: Batch, draws: Draws) -> int | None:
        """Return the least captured size that holds the step, or None if none does or it is no plain decode."""
        rows = len(batch.slots)
        if draws.is_special or not rows == len(batch.input_ids) == len(batch.logits_indices):
            return None
        return min((size for size in self._graphs if size >= rows), default=None)

    def replay(self, size: int) -> None:
        """Submit the step of this size."""
        self._stream.replay(self._graphs[size])


@cache
def padding(size: int, slot: int, kv_index: int) -> tuple[Batch, DrawInputs]:
    """Return a step of padding alone: ``size`` rows of one token at ``kv_index`` of the pool, in ``slot``.

    Do not write to it: the same arrays are returned again.
    """
    zeros, slots = np.zeros(size, np.int32), np.full(size, slot, np.int32)
    batch = Batch(
        slot_mapping=np.full(size, kv_index, np.int64),
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
        adjusted=np.empty(0, np.int32),
        num_biases=np.empty(0, np.int32),
        penalties=np.empty((0, 3), np.float32),
        reporting=np.empty(0, np.int32),
    )
    return batch, inputs


def padded(arrays: Padded, filling: Padded) -> Padded:
    """Return the arrays, each extended to the length that it has in ``filling`` by the rest of that one."""
    pairs = ((getattr(arrays, field.name), getattr(filling, field.name)) for field in fields(arrays))
    return type(arrays)(*(np.concatenate((array, fill[len(array) :])) for array, fill in pairs))
