"""What a step's draws leave behind: arrays where they were made, then numbers on the host."""

from dataclasses import dataclass

import numpy as np

from service.core.messages.plan import Drawn
from service.core.messages.sampling import TokenLogprobs
from service.execution.bundles import array, layout
from service.execution.draws import Draws
from service.execution.memory import Array


@dataclass(frozen=True, slots=True)
class DrawOutputs:
    """Arrays of one memory. A report that asks for fewer alternatives than another uses the leading ones."""

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
