"""A step's arrays at both ends of their copies: what it is told, in one; what comes of it, in another.

On the device there is one place for either, as all steps use it in the order of their stream; on the host each step
under way has an entry of `staging.Ring`.
"""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from service.execution.batch import Batch, TableChanges
from service.execution.draws import DrawSettings
from service.execution.gpu.packing import cut, packed_bytes
from service.execution.gpu.runtime import Runtime, Stream
from service.execution.gpu.sizes import StepSizes
from service.execution.gpu.staging import Entry
from service.execution.memory import Array, Field
from service.execution.outcome import Outcome


@dataclass(frozen=True, slots=True)
class StepShape:
    """How much of everything there is in a step: where each of its arrays stands follows from it.

    What goes before the model, changes of block tables and moves, stands last: the rest has its place without regard to
    them.
    """

    tokens: int
    rows: int
    samples: int
    reports: int = 0
    most: int = 0  # alternatives of whoever asks for the most
    changes: int = 0
    moves: int = 0

    @property
    def batch(self) -> tuple[Field, ...]:
        """The fields of its `Batch`."""
        return Batch.fields(self.tokens, self.rows, self.samples)

    @property
    def settings(self) -> tuple[Field, ...]:
        """The fields of its `DrawSettings`."""
        return DrawSettings.fields(self.samples, self.reports)

    @property
    def outcome(self) -> tuple[Field, ...]:
        """The fields of its `Outcome`."""
        return Outcome.fields(self.samples, self.reports, self.most)

    @property
    def told(self) -> tuple[Field, ...]:
        """All the fields of what it is told."""
        return (*self.batch, *self.settings, *self.before)

    @property
    def before(self) -> tuple[Field, ...]:
        """The fields of what goes before the model: table changes, and moves as `move_runs` takes them."""
        return (*TableChanges.fields(self.changes), ((self.moves, 3), np.int64))


class StepMemory:
    """The device's side, and the copies."""

    def __init__(self, runtime: Runtime, stream: Stream, sizes: StepSizes) -> None:
        self._stream = stream
        self._told = runtime.zeros((sizes.told_bytes,), np.uint8)
        self._outcome = runtime.zeros((sizes.outcome_bytes,), np.uint8)

    def tell(
        self,
        entry: Entry,
        shape: StepShape,
        batch: Batch,
        settings: DrawSettings,
        changes: TableChanges,
        moves: NDArray[np.int64],
    ) -> None:
        """Send the arrays of the host."""
        arrays = [getattr(part, field.name) for part in (batch, settings, changes) for field in fields(part)]
        for place, array in zip(cut(entry.told, shape.told), (*arrays, moves), strict=True):
            place[...] = array
        num_bytes = packed_bytes(shape.told)
        self._stream.copy(entry.told[:num_bytes], self._told[:num_bytes])

    def batch(self, shape: StepShape) -> Batch:
        """On the device."""
        return Batch(*cut(self._told, shape.batch))

    def settings(self, shape: StepShape) -> DrawSettings:
        """On the device."""
        return DrawSettings(*cut(self._told[packed_bytes(shape.batch) :], shape.settings))

    def before(self, shape: StepShape) -> tuple[TableChanges, Array]:
        """On the device: changes of block tables, and moves [moves, 3] int64."""
        start = packed_bytes((*shape.batch, *shape.settings))
        *changes, moves = cut(self._told[start:], shape.before)
        return TableChanges(*changes), moves

    def outcome(self, shape: StepShape) -> Outcome:
        """On the device."""
        return Outcome(*cut(self._outcome, shape.outcome))

    def fetch(self, entry: Entry, shape: StepShape) -> Outcome:
        """Have the outcome sent to the host: it is there when the step's event has passed."""
        num_bytes = packed_bytes(shape.outcome)
        self._stream.copy(self._outcome[:num_bytes], entry.outcome[:num_bytes])
        return Outcome(*cut(entry.outcome, shape.outcome))
