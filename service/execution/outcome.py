"""What a step's draws leave behind: arrays where they were made, then numbers on the host."""

from dataclasses import dataclass

import numpy as np

from service.core.messages.plan import Drawn
from service.core.messages.sampling import TokenLogprobs
from service.execution.draws import Draws
from service.execution.memory import Array, Field


@dataclass(frozen=True, slots=True)
class Outcome:
    """Arrays of one memory. ``most``: alternatives of whoever asks for the most; the others use the leading ones."""

    tokens: Array  # [rows] int32
    finite: Array  # [rows] bool: whether the row's logits were
    chosen: Array  # [reports] float32: log-probability of the drawn token
    ids: Array  # [reports, most] int32, likeliest first
    logprobs: Array  # [reports, most] float32

    @staticmethod
    def fields(rows: int, reports: int = 0, most: int = 0) -> tuple[Field, ...]:
        """What an `Outcome` of so many is made of, in order."""
        return (
            ((rows,), np.int32),
            ((rows,), np.bool_),
            ((reports,), np.float32),
            ((reports, most), np.int32),
            ((reports, most), np.float32),
        )

    @classmethod
    def on_host(cls, draws: Draws) -> "Outcome":
        """With room for such draws."""
        return cls(*(np.empty(shape, dtype) for shape, dtype in cls.fields(*draws.sizes)))

    def read(self, draws: Draws) -> list[Drawn]:
        """On the host: a `Drawn` for each row, that of a row without finite logits invalid. Rows of padding follow."""
        logprobs = {report.row: self._logprobs(number, report.count) for number, report in enumerate(draws.reports)}
        rows = zip(draws.slots, self.tokens.tolist(), self.finite.tolist(), strict=False)
        return [
            Drawn(slot, token, logprobs.get(row)) if finite else Drawn(slot, token, invalid=True)
            for row, (slot, token, finite) in enumerate(rows)
        ]

    def _logprobs(self, number: int, count: int) -> TokenLogprobs:
        ids, values = self.ids[number, :count].tolist(), self.logprobs[number, :count].tolist()
        return TokenLogprobs(float(self.chosen[number]), tuple(zip(ids, values, strict=True)))
