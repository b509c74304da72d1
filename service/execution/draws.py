"""The draws of a step: what the slots' requests ask of them, as arrays, and what they give.

The host decides all of it, alike for every device. `SlotSettings` belongs to the thread that launches steps. A `Draws`
is frozen, so that a step's result can be read while slots are opened for later steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.core.messages.plan import Drawn, SlotOpening
from service.core.messages.sampling import Penalties, SamplingParams, TokenLogprobs
from service.execution.bundles import array, layout
from service.execution.memory import Array

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A row of the draws whose logits change before its token is drawn: by its slot's biases, then penalties."""

    row: int
    slot: int
    num_biases: int
    penalties: Penalties | None


@dataclass(frozen=True, slots=True)
class LogprobsReport:
    """A row of the draws that reports log-probabilities of unadjusted logits, with ``count`` alternatives."""

    row: int
    count: int
    adjusted: bool  # whether the row has an `Adjustment`


@dataclass(frozen=True, slots=True)
class DrawInputs:
    """The inputs of a step's draws: arrays of the host, or of the device that draws."""

    positions: Longs = array(np.int64, "draws")  # the new tokens'
    seeds: NDArray[np.uint64] = array(np.uint64, "draws")
    slots: Ints = array(np.int32, "draws")
    temperature: Floats = array(np.float32, "draws")
    top_k: Ints = array(np.int32, "draws")
    top_p: Floats = array(np.float32, "draws")
    min_p: Floats = array(np.float32, "draws")
    reporting: Ints = array(np.int32, "reports")  # rows of the draws that report log-probabilities


@dataclass(frozen=True, slots=True)
class Draws:
    """A step's draws: row r draws a token for ``slots[r]``."""

    slots: tuple[int, ...]
    inputs: DrawInputs
    adjustments: tuple[Adjustment, ...]
    reports: tuple[LogprobsReport, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of its arrays' axes; ``alternatives`` are those of the request that asks for the most."""
        alternatives = max((report.count for report in self.reports), default=0)
        return {"draws": len(self.slots), "reports": len(self.reports), "alternatives": alternatives}

    @property
    def is_special(self) -> bool:
        """Whether any row needs more than a plain draw."""
        return bool(self.adjustments or self.reports)

    @property
    def penalized(self) -> bool:
        """Whether any token must be counted."""
        return any(adjustment.penalties for adjustment in self.adjustments)


@dataclass(frozen=True, slots=True)
class DrawOutputs:
    """The outputs of a step's draws: arrays of one memory.

    A report that asks for fewer alternatives than another uses the leading ones.
    """

    tokens: Array = array(np.int32, "draws")
    finite: Array = array(np.bool_, "draws")  # whether the row's logits were finite
    chosen: Array = array(np.float32, "reports")  # log-probability of the drawn token
    ids: Array = array(np.int32, "reports", "alternatives")  # likeliest first
    logprobs: Array = array(np.float32, "reports", "alternatives")

    @classmethod
    def on_host(cls, draws: Draws) -> "DrawOutputs":
        """Return empty arrays of the host for such draws."""
        return cls(*(np.empty(shape, dtype) for shape, dtype in layout(cls, draws.sizes)))

    def read(self, draws: Draws) -> list[Drawn]:
        """Return a `Drawn` for each row, invalid where logits were not finite. The arrays must be the host's.

        Rows of padding may follow in the arrays.
        """
        logprobs = {report.row: self._logprobs(number, report.count) for number, report in enumerate(draws.reports)}
        rows = zip(draws.slots, self.tokens.tolist(), self.finite.tolist(), strict=False)
        return [
            Drawn(slot, token, logprobs.get(row)) if finite else Drawn(slot, token, invalid=True)
            for row, (slot, token, finite) in enumerate(rows)
        ]

    def _logprobs(self, number: int, count: int) -> TokenLogprobs:
        ids, values = self.ids[number, :count].tolist(), self.logprobs[number, :count].tolist()
        return TokenLogprobs(float(self.chosen[number]), tuple(zip(ids, values, strict=True)))


class SlotSettings:
    """The sampling parameters of each slot's request."""

    def __init__(self, num_slots: int) -> None:
        self._params = [SamplingParams()] * num_slots
        self._special: set[int] = set()  # slots with biases, penalties or reports
        self._temperature = np.zeros(num_slots, np.float32)
        self._top_k = np.zeros(num_slots, np.int32)
        self._top_p = np.ones(num_slots, np.float32)
        self._min_p = np.zeros(num_slots, np.float32)
        self._seeds = np.zeros(num_slots, np.uint64)

    def open(self, opening: SlotOpening) -> None:
        """Take over a request's sampling parameters."""
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
        """Return the draws of a token at each of ``positions``, in the slots' sequences."""
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
