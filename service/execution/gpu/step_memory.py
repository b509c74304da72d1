"""A step's inputs and outputs at both ends of their copies: all inputs travel in one copy, all outputs in another.

On the device all steps use the same memory, in the order of their stream. On the host each step under way has an entry
of `staging.Ring`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from service.execution.batch import Batch, TableChanges
from service.execution.bundles import Bundle, array, packed_bytes, unpacked
from service.execution.draws import DrawInputs, DrawOutputs
from service.execution.gpu.runtime import Runtime, Stream
from service.execution.gpu.staging import Entry


@dataclass(frozen=True, slots=True)
class Moves:
    """Moves of blocks on the device, as `move_runs` takes them."""

    runs: NDArray[np.int64] = array(np.int64, "moves", 3)  # source, destination, length

    @classmethod
    def of(cls, runs: Sequence[tuple[int, int, int]]) -> "Moves":
        """Return them as an array of the host."""
        return cls(np.array(runs, np.int64).reshape(-1, 3))


# What is used before the model runs, table changes and moves, stands last: the addresses of the rest, which captured
# work reads, do not depend on their number.
INPUTS = (Batch, DrawInputs, TableChanges, Moves)


@dataclass(frozen=True, slots=True)
class StepShape:
    """The size of every axis of a step's arrays, by its name: where each array stands follows from it."""

    tokens: int
    rows: int
    draws: int
    adjusted: int = 0
    reports: int = 0
    alternatives: int = 0  # of the request that asks for the most
    changes: int = 0
    moves: int = 0

    @property
    def input_bytes(self) -> int:
        """Bytes of the step's inputs."""
        return packed_bytes(INPUTS, asdict(self))

    @property
    def output_bytes(self) -> int:
        """Bytes of the step's outputs."""
        return packed_bytes([DrawOutputs], asdict(self))


class StepMemory:
    """The device's side, and the copies. ``largest`` has the largest size of each axis."""

    def __init__(self, runtime: Runtime, stream: Stream, largest: StepShape) -> None:
        self._stream = stream
        self._inputs = runtime.zeros((largest.input_bytes,), np.uint8)
        self._outputs = runtime.zeros((largest.output_bytes,), np.uint8)

    def send(self, entry: Entry, shape: StepShape, inputs: Sequence[object]) -> None:
        """Send the host's `INPUTS`, one of each, to the device."""
        start = 0
        for bundle, part in zip(INPUTS, inputs, strict=True):
            views: object = unpacked(entry.inputs[start:], bundle, asdict(shape))
            for field in fields(bundle):
                getattr(views, field.name)[...] = getattr(part, field.name)
            start += packed_bytes([bundle], asdict(shape))
        self._stream.copy(entry.inputs[:start], self._inputs[:start])

    def inputs(self, bundle: type[Bundle], shape: StepShape) -> Bundle:
        """Return one of the `INPUTS`, on the device."""
        sizes = asdict(shape)
        start = packed_bytes(INPUTS[: INPUTS.index(bundle)], sizes)
        return unpacked(self._inputs[start:], bundle, sizes)

    def outputs(self, shape: StepShape) -> DrawOutputs:
        """Return the outputs, on the device."""
        return unpacked(self._outputs, DrawOutputs, asdict(shape))

    def fetch(self, entry: Entry, shape: StepShape) -> DrawOutputs:
        """Submit a copy of the outputs to the host: they are there when the step's event has passed."""
        num_bytes = shape.output_bytes
        self._stream.copy(self._outputs[:num_bytes], entry.outputs[:num_bytes])
        return unpacked(entry.outputs, DrawOutputs, asdict(shape))
