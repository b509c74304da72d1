"""A step's arrays at both ends of their copies: its inputs travel in one, its outputs in another.

On the device there is one place for either, as all steps use it in the order of their stream; on the host each step
under way has an entry of `staging.Ring`.
"""

from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from service.execution.batch import Batch, TableChanges
from service.execution.bundles import layout
from service.execution.draw_outputs import DrawOutputs
from service.execution.draws import DrawInputs
from service.execution.gpu.packing import packed_bytes, unpacked
from service.execution.gpu.runtime import Runtime, Stream
from service.execution.gpu.sizes import StepSizes
from service.execution.gpu.staging import Entry
from service.execution.memory import Array, Field


@dataclass(frozen=True, slots=True)
class StepShape:
    """How much of everything there is in a step: where each of its arrays stands follows from it.

    What goes before the model, changes of block tables and moves, stands last: the rest has its place without regard to
    them.
    """

    tokens: int
    rows: int
    draws: int
    reports: int = 0
    alternatives: int = 0  # of the request that asks for the most
    changes: int = 0
    moves: int = 0

    @property
    def batch(self) -> tuple[Field, ...]:
        """The fields of its `Batch`."""
        return layout(Batch, asdict(self))

    @property
    def draw_inputs(self) -> tuple[Field, ...]:
        """The fields of its `DrawInputs`."""
        return layout(DrawInputs, asdict(self))

    @property
    def outputs(self) -> tuple[Field, ...]:
        """The fields of its `DrawOutputs`."""
        return layout(DrawOutputs, asdict(self))

    @property
    def inputs(self) -> tuple[Field, ...]:
        """The fields of all its inputs."""
        return (*self.batch, *self.draw_inputs, *self.before)

    @property
    def before(self) -> tuple[Field, ...]:
        """The fields of what goes before the model: table changes, and moves as `move_runs` takes them."""
        return (*layout(TableChanges, asdict(self)), ((self.moves, 3), np.int64))


class StepMemory:
    """The device's side, and the copies."""

    def __init__(self, runtime: Runtime, stream: Stream, sizes: StepSizes) -> None:
        self._stream = stream
        self._inputs = runtime.zeros((sizes.input_bytes,), np.uint8)
        self._outputs = runtime.zeros((sizes.output_bytes,), np.uint8)

    def send(
        self,
        entry: Entry,
        shape: StepShape,
        batch: Batch,
        draw_inputs: DrawInputs,
        changes: TableChanges,
        moves: NDArray[np.int64],
    ) -> None:
        """Send the arrays of the host to the device."""
        arrays = [getattr(part, field.name) for part in (batch, draw_inputs, changes) for field in fields(part)]
        for place, array in zip(unpacked(entry.inputs, shape.inputs), (*arrays, moves), strict=True):
            place[...] = array
        num_bytes = packed_bytes(shape.inputs)
        self._stream.copy(entry.inputs[:num_bytes], self._inputs[:num_bytes])

    def batch(self, shape: StepShape) -> Batch:
        """On the device."""
        return Batch(*unpacked(self._inputs, shape.batch))

    def draw_inputs(self, shape: StepShape) -> DrawInputs:
        """On the device."""
        return DrawInputs(*unpacked(self._inputs[packed_bytes(shape.batch) :], shape.draw_inputs))

    def before(self, shape: StepShape) -> tuple[TableChanges, Array]:
        """On the device: changes of block tables, and moves [moves, 3] int64."""
        start = packed_bytes((*shape.batch, *shape.draw_inputs))
        *changes, moves = unpacked(self._inputs[start:], shape.before)
        return TableChanges(*changes), moves

    def outputs(self, shape: StepShape) -> DrawOutputs:
        """On the device."""
        return DrawOutputs(*unpacked(self._outputs, shape.outputs))

    def fetch(self, entry: Entry, shape: StepShape) -> DrawOutputs:
        """Have the outputs sent to the host: it is there when the step's event has passed."""
        num_bytes = packed_bytes(shape.outputs)
        self._stream.copy(self._outputs[:num_bytes], entry.outputs[:num_bytes])
        return DrawOutputs(*unpacked(entry.outputs, shape.outputs))
