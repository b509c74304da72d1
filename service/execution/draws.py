"""The draws of a step: what the slots' requests ask of them, as arrays, and what they give.

The host decides all of it, alike for every device. `SlotSettings` belongs to the thread that launches steps. A `Draws`
is frozen, so that a step's result can be read while slots are opened for later steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.core.messages.plan import Drawn, SlotOpening
from service.core.messages.sampling import NO_PENALTIES, SamplingParams, TokenLogprobs
from service.execution.bundles import array, layout
from service.execution.memory import Array

Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LogprobsReport:
    """A row of the draws that reports log-probabilities of unadjusted logits, with ``count`` alternatives."""

    row: int
    count: int
    adjusted: bool  # whether biases or penalties change the row's logits


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
    adjusted: Ints = array(np.int32, "adjusted")  # rows of the draws whose logits biases or penalties change
    num_biases: Ints = array(np.int32, "adjusted")
    penalties: Floats = array(np.float32, "adjusted", 3)  # presence, frequency, repetition
    reporting: Ints = array(np.int32, "reports")  # rows of the draws that report log-probabilities


@dataclass(frozen=True, slots=True)
class Draws:
    """A step's draws: row r draws a token for ``slots[r]``."""

    slots: tuple[int, ...]
    inputs: DrawInputs
    biased: bool = False  # whether any row has biases
    penalized: bool = False  # whether any row has penalties: its token must be counted
    reports: tuple[LogprobsReport, ...] = ()

    @property
    def sizes(self) -> dict[str, int]:
        """The sizes of its arrays' axes; ``alternatives`` are those of the request that asks for the most."""
        alternatives = max((report.count for report in self.reports), default=0)
        adjusted, reports = len(self.inputs.adjusted), len(self.reports)
        return {"draws": len(self.slots), "adjusted": adjusted, "reports": reports, "alternatives": alternatives}

    @property
    def is_special(self) -> bool:
        """Whether any row needs more than a plain draw."""
        return self.biased or self.penalized or bool(self.reports)


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
        self._temperature = np.zeros(num_slots, np.float32)
        self._top_k = np.zeros(num_slots, np.int32)
        self._top_p = np.ones(num_slots, np.float32)
        self._min_p = np.zeros(num_slots, np.float32)
        self._seeds = np.zeros(num_slots, np.uint64)
        self._latest: Draws | None = None  # most steps draw for the slots of the step before

    def open(self, opening: SlotOpening) -> None:
        """Take over a request's sampling parameters."""
        slot, params = opening.slot, opening.sampling_params
        self._params[slot] = params
        self._temperature[slot] = params.temperature
        self._top_k[slot] = params.top_k
        self._top_p[slot] = params.top_p
        self._min_p[slot] = params.min_p
        self._seeds[slot] = params.seed % 2**64
        self._latest = None

    def draws(self, slots: Sequence[int], positions: Sequence[int]) -> Draws:
        """Return the draws of a token at each of ``positions``, in the slots' sequences."""
        if self._latest is None or self._latest.slots != tuple(slots):
            self._latest = self._for_slots(tuple(slots))
        inputs = replace(self._latest.inputs, positions=np.array(positions, np.int64))
        return replace(self._latest, inputs=inputs)

    def _for_slots(self, slots: tuple[int, ...]) -> Draws:
        """Return draws for these slots, at positions that `draws` sets."""
        each = [self._params[slot] for slot in slots]
        adjusted = [row for row, params in enumerate(each) if params.adjusts]
        reports = tuple(
            LogprobsReport(row, params.logprobs, params.adjusts)
            for row, params in enumerate(each)
            if params.logprobs is not None
        )
        index = np.array(slots, np.int32)
        inputs = DrawInputs(
            positions=np.zeros(len(slots), np.int64),
            seeds=self._seeds[index],
            slots=index,
            temperature=self._temperature[index],
            top_k=self._top_k[index],
            top_p=self._top_p[index],
            min_p=self._min_p[index],
            adjusted=np.array(adjusted, np.int32),
            num_biases=np.array([len(each[row].logit_bias) for row in adjusted], np.int32),
            penalties=np.array([each[row].penalties or NO_PENALTIES for row in adjusted], np.float32).reshape(-1, 3),
            reporting=np.array([report.row for report in reports], np.int32),
        )
        biased, penalized = (any(of) for of in ((p.logit_bias for p in each), (p.penalties for p in each)))
        return Draws(slots, inputs, biased, penalized, reports)
