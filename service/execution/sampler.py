"""Draws the tokens of a step from its logits, by each request's sampling parameters, on any memory."""

from collections.abc import Sequence

import numpy as np

from service.core.messages.plan import SlotOpening
from service.core.messages.sampling import MAX_BIASED_TOKENS
from service.execution.draws import DrawInputs, DrawOutputs, Draws, SlotSettings
from service.execution.memory import Array, Kernels, Memory


class Sampler:
    """Owns the slots' sampling parameters and histories. A slot's token depends on these and its own logits alone.

    Memory for penalties and biases is allocated at start for every slot, so a request that has them never fails for it.
    """

    def __init__(self, num_slots: int, vocab_size: int, kernels: Kernels, memory: Memory) -> None:
        self._kernels, self._memory = kernels, memory
        self._settings = SlotSettings(num_slots)
        self._seen = memory.zeros((num_slots, vocab_size), np.bool_)  # in the prompt or the answer
        self._counts = memory.zeros((num_slots, vocab_size), np.int32)  # how often each token was drawn
        self._biased = memory.zeros((num_slots, MAX_BIASED_TOKENS), np.int32)
        self._biases = memory.zeros((num_slots, MAX_BIASED_TOKENS), np.float32)
        self._reported = memory.zeros((num_slots, vocab_size), np.float32)  # logits to report, if some are adjusted

    def open(self, opening: SlotOpening) -> None:
        """Give a slot the sampling parameters of a request and, for penalties, its tokens as history."""
        self._settings.open(opening)
        slot, params = opening.slot, opening.sampling_params
        if params.penalties:
            self._set_history(opening)
        if params.logit_bias:
            count = len(params.logit_bias)
            self._memory.write(np.array([*params.logit_bias], np.int32), self._biased[slot, :count])
            self._memory.write(np.array([*params.logit_bias.values()], np.float32), self._biases[slot, :count])

    def _set_history(self, opening: SlotOpening) -> None:
        vocab_size = self._counts.shape[1]
        counts = np.bincount(np.array(opening.answer, np.int64), minlength=vocab_size).astype(np.int32)
        seen = counts > 0
        seen[np.array(opening.prompt, np.int64)] = True
        self._memory.write(seen, self._seen[opening.slot])
        self._memory.write(counts, self._counts[opening.slot])

    def draws(self, slots: Sequence[int], positions: Sequence[int]) -> Draws:
        """Return the draws of a token at each of these positions, in the slots' sequences."""
        return self._settings.draws(slots, positions)

    def draw(self, logits: Array, draws: Draws, inputs: DrawInputs, out: DrawOutputs) -> None:
        """Draw a token for each row of logits [rows, vocab] float32, which are overwritten.

        ``inputs`` are the draws' own; they and ``out`` are arrays of this memory.
        """
        kernels = self._kernels
        kernels.finite_rows(logits, out.finite)
        kernels.clear_rows(logits, out.finite)
        unadjusted = self._unadjusted(logits, draws)
        self._adjust(logits, draws, inputs)
        filters = (inputs.temperature, inputs.top_k, inputs.top_p, inputs.min_p)
        kernels.sample(logits, *filters, inputs.seeds, inputs.positions, out.tokens)
        if draws.penalized:
            kernels.count_tokens(out.tokens, inputs.slots, self._seen, self._counts)
        if draws.reports:
            kernels.top_logprobs(unadjusted, inputs.reporting, out.tokens, out.chosen, out.ids, out.logprobs)

    def _unadjusted(self, logits: Array, draws: Draws) -> Array:
        """Return logits that stay as they are for the rows that report: copies, if any of these rows is adjusted."""
        if not any(report.adjusted for report in draws.reports):
            return logits
        for report in draws.reports:
            self._memory.copy(logits[report.row], self._reported[report.row])
        return self._reported[: len(logits)]

    def _adjust(self, logits: Array, draws: Draws, inputs: DrawInputs) -> None:
        """Apply biases, then penalties, as vLLM does."""
        if draws.biased:
            biases = (inputs.num_biases, self._biased, self._biases)
            self._kernels.add_biases(logits, inputs.adjusted, inputs.slots, *biases)
        if draws.penalized:
            histories = (self._seen, self._counts)
            self._kernels.penalize(logits, inputs.adjusted, inputs.slots, inputs.penalties, *histories)
