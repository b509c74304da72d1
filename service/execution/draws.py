"""What the slots' requests want of their draws, as a step's arrays: decisions of the host, the same for every device.

`SlotSettings` belongs to the thread that launches steps. A `Draws` is frozen, so that a step's result can be read while
slots are opened for later ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.core.messages.plan import SlotOpening
from service.core.messages.sampling import Penalties, SamplingParams
from service.execution.bundles import array

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Logits of a row of the draws that change before its token is drawn: by its slot's biases, then penalties."""

    row: int
    slot: int
    num_biases: int
    penalties: Penalties | None


@dataclass(frozen=True, slots=True)
class LogprobsReport:
    """A row of the draws whose log-probabilities are asked for, with ``count`` alternatives; of logits as they were
    before any adjustment.
    """

    row: int
    count: int
    adjusted: bool


@dataclass(frozen=True, slots=True)
class DrawInputs:
    """For each token that a step draws; arrays of the host, or of the device that draws."""

    positions: Longs = array(np.int64, "draws")  # the new tokens'
    seeds: NDArray[np.uint64] = array(np.uint64, "draws")
    slots: Ints = array(np.int32, "draws")
    temperature: Floats = array(np.float32, "draws")
    top_k: Ints = array(np.int32, "draws")
    top_p: Floats = array(np.float32, "draws")
    min_p: Floats = array(np.float32, "draws")
    reporting: Ints = array(np.int32, "reports")  # the draws whose log-probabilities are asked for


@dataclass(frozen=True, slots=True)
class Draws:
    """All that is to be known about a step's draws. ``slots``: whose they are, in the order of the settings' rows."""

    slots: tuple[int, ...]
    inputs: DrawInputs
    adjustments: tuple[Adjustment, ...]
    reports: tuple[LogprobsReport, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The axes of its arrays: draws, reports, and the alternatives of the request that asks for the most."""
        alternatives = max((report.count for report in self.reports), default=0)
        return {"draws": len(self.slots), "reports": len(self.reports), "alternatives": alternatives}

    @property
    def is_special(self) -> bool:
        """Whether more is wanted than a token a row."""
        return bool(self.adjustments or self.reports)

    @property
    def penalized(self) -> bool:
        """Whether any token must be counted."""
        return any(adjustment.penalties for adjustment in self.adjustments)


class SlotSettings:
    """Owns what each slot's request asked for."""

    def __init__(self, num_slots: int) -> None:
        self._params = [SamplingParams()] * num_slots
        self._special: set[int] = set()  # slots with biases, penalties or reports
        self._temperature = np.zeros(num_slots, np.float32)
        self._top_k = np.zeros(num_slots, np.int32)
        self._top_p = np.ones(num_slots, np.float32)
        self._min_p = np.zeros(num_slots, np.float32)
        self._seeds = np.zeros(num_slots, np.uint64)

    def open(self, opening: SlotOpening) -> None:
        """Take over a request's settings."""
        slot, params = opening.slot, opening.sampling_params
        self._params[slot] = params
        self._temperature[slot] = params.temperature
        self._top_k[slot] = params.top_k
        self._top_p[slot] = params.top_p
        self._min_p[slot] = params.min_p
        self._seeds[slot] = params.seed % 2**64
        self._special.discard(slot)
        if params.logit_bias or params.penalties or params.logprobs is not None:
            self._special.add(slot)

    def draws(self, slots: Sequence[int], positions: Sequence[int]) -> Draws:
        """Of a token at each of ``positions``, in the slots' sequences."""
        special = [(row, slot) for row, slot in enumerate(slots) if slot in self._special]
        adjustments = tuple(filter(None, (self._adjustment(row, slot) for row, slot in special)))
        reports = tuple(filter(None, (self._report(row, slot) for row, slot in special)))
        index = np.array(slots, np.int32)
        inputs = DrawInputs(
            positions=np.array(positions, np.int64),
            seeds=self._seeds[index],
            slots=index,
            temperature=self._temperature[index],
            top_k=self._top_k[index],
            top_p=self._top_p[index],
            min_p=self._min_p[index],
            reporting=np.array([report.row for report in reports], np.int32),
        )
        return Draws(tuple(slots), inputs, adjustments, reports)

    def _adjustment(self, row: int, slot: int) -> Adjustment | None:
        params = self._params[slot]
        penalties = params.penalties
        adjusts = params.logit_bias or penalties
        return Adjustment(row, slot, len(params.logit_bias), penalties) if adjusts else None

    def _report(self, row: int, slot: int) -> LogprobsReport | None:
        params = self._params[slot]
        adjusted = bool(params.logit_bias or params.penalties)
        return None if params.logprobs is None else LogprobsReport(row, params.logprobs, adjusted)
