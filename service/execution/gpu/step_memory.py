"""A step's arrays at both ends of their copies: what it is told, in one; what comes of it, in another.

On the device there is one place for either, as all steps use it in the order of their stream; on the host each step
under way has an entry of `staging.Ring`.
"""

from dataclasses import dataclass, fields

import numpy as np

from service.execution.batch import Batch, TableChanges
from service.execution.draws import DrawSettings
from service.execution.gpu.packing import cut, packed_bytes
from service.execution.gpu.runtime import Runtime, Stream
from service.execution.gpu.sizes import StepSizes
from service.execution.gpu.staging import Entry
from service.execution.memory import Field
from service.execution.outcome import Outcome


@dataclass(frozen=True, slots=True)
class StepShape:
    """How much of everything there is in a step: where each of its arrays stands follows from it.

    Changes of block tables stand last, so that the rest has its place without regard to them.
    """

    tokens: int
    rows: int
    samples: int
    reports: int = 0
    most: int = 0  # alternatives of whoever asks for the most
    changes: int = 0

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
        return (*self.batch, *self.settings, *TableChanges.fields(self.changes))


class StepMemory:
    """The device's side, and the copies."""

    def __init__(self, runtime: Runtime, stream: Stream, sizes: StepSizes) -> None:
        self._stream = stream
        self._told = runtime.zeros((sizes.told_bytes,), np.uint8)
        self._outcome = runtime.zeros((sizes.outcome_bytes,), np.uint8)

    def tell(self, entry: Entry, shape: StepShape, batch: Batch, settings: DrawSettings, changes: TableChanges) -> None:
        """Send the arrays of the host."""
        arrays = (getattr(part, field.name) for part in (batch, settings, changes) for field in fields(part))
        for place, array in zip(cut(entry.told, shape.told), arrays, strict=True):
            place[...] = array
        num_bytes = packed_bytes(shape.told)
        self._stream.copy(entry.told[:num_bytes], self._told[:num_bytes])

    def batch(self, shape: StepShape) -> Batch:
        """On the device."""
        return Batch(*cut(self._told, shape.batch))

    def settings(self, shape: StepShape) -> DrawSettings:
        """On the device."""
        return DrawSettings(*cut(self._told[packed_bytes(shape.batch) :], shape.settings))

    def changes(self, shape: StepShape) -> TableChanges:
        """On the device."""
        start = packed_bytes((*shape.batch, *shape.settings))
        return TableChanges(*cut(self._told[start:], TableChanges.fields(shape.changes)))

    def outcome(self, shape: StepShape) -> Outcome:
        """On the device."""
        return Outcome(*cut(self._outcome, shape.outcome))

    def fetch(self, entry: Entry, shape: StepShape) -> Outcome:
        """Have the outcome sent to the host: it is there when the step's event has passed."""
        num_bytes = packed_bytes(shape.outcome)
        self._stream.copy(self._outcome[:num_bytes], entry.outcome[:num_bytes])
        return Outcome(*cut(entry.outcome, shape.outcome))
