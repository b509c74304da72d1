"""Draws the tokens of a step from its logits, each slot by its request's settings, on any memory."""

from collections.abc import Sequence

import numpy as np

from service.core.messages.plan import SlotOpening
from service.core.messages.sampling import MAX_BIASED_TOKENS
from service.execution.draws import Adjustment, DrawInputs, DrawOutputs, Draws, SlotSettings
from service.execution.memory import Array, Kernels, Memory


class Sampler:
    """Owns the slots' settings and histories. Only a slot's own settings, seed and history decide its token.

    What penalties and biases need is taken at start for every slot: a request that wants them never fails for memory.
    """

    def __init__(self, num_slots: int, vocab_size: int, kernels: Kernels, memory: Memory) -> None:
        self._kernels, self._memory = kernels, memory
        self._settings = SlotSettings(num_slots)
        self._in_prompt = memory.zeros((num_slots, vocab_size), np.bool_)
        self._counts = memory.zeros((num_slots, vocab_size), np.int32)  # how often each token was drawn
        self._biased = memory.zeros((num_slots, MAX_BIASED_TOKENS), np.int32)
        self._biases = memory.zeros((num_slots, MAX_BIASED_TOKENS), np.float32)
        self._raw = memory.zeros((num_slots, vocab_size), np.float32)  # logits to report, where some are adjusted

    def open(self, opening: SlotOpening) -> None:
        """Take over a request's settings and, for penalties, its tokens. What the slot held of them is void."""
        self._settings.open(opening)
        slot, params = opening.slot, opening.sampling_params
        if params.penalties:
            self._remember(opening)
        if params.logit_bias:
            count = len(params.logit_bias)
            self._memory.write(np.array([*params.logit_bias], np.int32), self._biased[slot, :count])
            self._memory.write(np.array([*params.logit_bias.values()], np.float32), self._biases[slot, :count])

    def _remember(self, opening: SlotOpening) -> None:
        vocab_size = self._counts.shape[1]
        in_prompt = np.zeros(vocab_size, np.bool_)
        in_prompt[np.array(opening.prompt, np.int64)] = True
        counts = np.bincount(np.array(opening.answer, np.int64), minlength=vocab_size).astype(np.int32)
        self._memory.write(in_prompt, self._in_prompt[opening.slot])
        self._memory.write(counts, self._counts[opening.slot])

    def draws(self, slots: Sequence[int], positions: Sequence[int]) -> Draws:
        """How tokens at these positions of the slots' sequences are to be drawn."""
        return self._settings.draws(slots, positions)

    def draw(self, logits: Array, draws: Draws, inputs: DrawInputs, out: DrawOutputs) -> None:
        """A token for each row of logits [rows, vocab] float32, which it overwrites.

        ``inputs`` are the draws' own, in this memory, and so is ``out``.
        """
        kernels = self._kernels
        kernels.finite_rows(logits, out.finite)
        kernels.clear_rows(logits, out.finite)
        raw = self._keep(logits, draws)
        for adjustment in draws.adjustments:
            self._adjust(logits[adjustment.row], adjustment)
        filters = (inputs.temperature, inputs.top_k, inputs.top_p, inputs.min_p)
        kernels.sample(logits, *filters, inputs.seeds, inputs.positions, out.tokens)
        if draws.penalized:
            kernels.count_tokens(out.tokens, inputs.slots, self._counts)
        if draws.reports:
            kernels.top_logprobs(raw, inputs.reporting, out.tokens, out.chosen, out.ids, out.logprobs)

    def _keep(self, logits: Array, draws: Draws) -> Array:
        """Where the logits of rows that report stay as they are."""
        if not any(report.adjusted for report in draws.reports):
            return logits
        for report in draws.reports:
            self._memory.copy(logits[report.row], self._raw[report.row])
        return self._raw[: len(logits)]

    def _adjust(self, logits: Array, adjustment: Adjustment) -> None:
        """Bias, then penalties, as vLLM does."""
        slot, count = adjustment.slot, adjustment.num_biases
        if count:
            self._kernels.add_bias(logits, self._biased[slot, :count], self._biases[slot, :count])
        if adjustment.penalties is not None:
            self._kernels.penalize(logits, self._in_prompt[slot], self._counts[slot], *adjustment.penalties)
