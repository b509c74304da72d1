"""Draws the tokens of a step from its logits, each slot by its request's settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from service.core.plan import Drawn, SlotOpening
from service.core.sampling import SamplingParams, TokenLogprobs
from service.execution.weights import Array


@dataclass(slots=True)
class Penalties:
    """What a slot with penalties has seen; slots without have none of this."""

    in_prompt: NDArray[np.bool_]  # [vocab]
    counts: NDArray[np.int32]  # [vocab] how often each token was drawn


class Sampler:
    """Owns the slots' sampling settings. Only a slot's own settings, seed and history decide its token."""

    def __init__(self, num_slots: int, vocab_size: int, kernels: ModuleType) -> None:
        self._kernels = kernels
        self._vocab_size = vocab_size
        self._params = [SamplingParams()] * num_slots
        self._penalties: dict[int, Penalties] = {}
        self._biases: dict[int, tuple[NDArray[np.int32], Array]] = {}
        self._temperature = np.zeros(num_slots, np.float32)
        self._top_k = np.zeros(num_slots, np.int32)
        self._top_p = np.ones(num_slots, np.float32)
        self._min_p = np.zeros(num_slots, np.float32)
        self._seeds = np.zeros(num_slots, np.uint64)

    def open(self, opening: SlotOpening) -> None:
        """Take over a request's settings and, for penalties, its tokens."""
        slot, params = opening.slot, opening.sampling
        self._params[slot] = params
        self._temperature[slot] = params.temperature
        self._top_k[slot] = params.top_k
        self._top_p[slot] = params.top_p
        self._min_p[slot] = params.min_p
        self._seeds[slot] = params.seed % 2**64
        self._penalties.pop(slot, None)
        self._biases.pop(slot, None)
        if (params.presence_penalty, params.frequency_penalty, params.repetition_penalty) != (0, 0, 1):
            self._penalties[slot] = self._history(opening)
        if params.logit_bias:
            tokens, values = zip(*params.logit_bias.items(), strict=True)
            self._biases[slot] = (np.array(tokens, np.int32), np.array(values, np.float32))

    def _history(self, opening: SlotOpening) -> Penalties:
        tokens = np.array(opening.tokens, np.int64)
        in_prompt = np.zeros(self._vocab_size, np.bool_)
        in_prompt[tokens[: opening.prompt_length]] = True
        counts = np.bincount(tokens[opening.prompt_length :], minlength=self._vocab_size)
        return Penalties(in_prompt, counts.astype(np.int32))

    def draw(self, logits: Array, slots: Sequence[int], positions: Sequence[int]) -> list[Drawn]:
        """A token for each row of logits [rows, vocab], which it overwrites; ``positions`` are the new tokens'."""
        finite = np.empty(len(slots), np.bool_)
        self._kernels.finite_rows(logits, finite)
        self._kernels.clear_rows(logits, finite)
        reporting = [row for row, slot in enumerate(slots) if finite[row] and self._params[slot].logprobs is not None]
        raw = logits.copy() if any(self._adjusts(slots[row]) for row in reporting) else logits
        for row, slot in enumerate(slots):
            self._adjust(logits[row], slot)
        tokens = np.empty(len(slots), np.int32)
        index = np.array(slots, np.int64)
        settings = (a[index] for a in (self._temperature, self._top_k, self._top_p, self._min_p, self._seeds))
        self._kernels.sample(logits, *settings, np.array(positions, np.int64), tokens)
        logprobs = self._logprobs(raw, tokens, reporting, slots) if reporting else {}
        return [
            self._drawn(slot, int(tokens[row]), logprobs.get(row), invalid=not finite[row])
            for row, slot in enumerate(slots)
        ]

    def _adjusts(self, slot: int) -> bool:
        return slot in self._penalties or slot in self._biases

    def _adjust(self, logits: Array, slot: int) -> None:
        """Bias, then penalties, as vLLM does."""
        if slot in self._biases:
            self._kernels.add_bias(logits, *self._biases[slot])
        if slot in self._penalties:
            seen, params = self._penalties[slot], self._params[slot]
            penalties = (params.presence_penalty, params.frequency_penalty, params.repetition_penalty)
            self._kernels.penalize(logits, seen.in_prompt, seen.counts, *penalties)

    def _drawn(self, slot: int, token: int, logprobs: TokenLogprobs | None, *, invalid: bool) -> Drawn:
        if slot in self._penalties and not invalid:
            self._penalties[slot].counts[token] += 1
        return Drawn(slot, token, logprobs, invalid=invalid)

    def _logprobs(
        self, raw: Array, tokens: NDArray[np.int32], rows: list[int], slots: Sequence[int]
    ) -> dict[int, TokenLogprobs]:
        """By row, for the rows that report them."""
        counts = [self._params[slots[row]].logprobs or 0 for row in rows]
        chosen, values = np.empty(len(rows), np.float32), np.empty((len(rows), max(counts)), np.float32)
        ids = np.empty(values.shape, np.int32)
        self._kernels.top_logprobs(raw, np.array(rows, np.int32), tokens, chosen, ids, values)
        tops = [tuple(zip(ids[i, :n].tolist(), values[i, :n].tolist(), strict=True)) for i, n in enumerate(counts)]
        return {row: TokenLogprobs(float(own), top) for row, own, top in zip(rows, chosen, tops, strict=True)}
