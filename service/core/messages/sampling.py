"""Sampling parameters: plain numbers, which the API validates, core passes on and the sampler uses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_BIASED_TOKENS = 1024  # of a request
MAX_LOGPROBS = 20  # alternatives a token


Penalties = tuple[float, float, float]  # presence, frequency, repetition
NO_PENALTIES: Penalties = (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """One request's sampling settings; names and ranges are vLLM's, defaults OpenAI's.

    Noise depends on ``seed`` and the token's position only, so a resumed or re-batched request draws the same tokens.
    ``temperature`` 0 is greedy. ``top_k`` 0 is off. ``logprobs``: how many alternatives to report, up to
    `MAX_LOGPROBS`; None reports no log-probability. ``logit_bias`` is for up to `MAX_BIASED_TOKENS` tokens.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0
    logprobs: int | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)

    @property
    def penalties(self) -> Penalties | None:
        """The penalties; None if they have no effect."""
        penalties = (self.presence_penalty, self.frequency_penalty, self.repetition_penalty)
        return None if penalties == NO_PENALTIES else penalties

    @property
    def adjusts(self) -> bool:
        """Whether biases or penalties change the logits before a draw."""
        return bool(self.logit_bias) or self.penalties is not None


@dataclass(frozen=True, slots=True)
class RepetitionDetection:
    """An answer ends when it ends with ``min_count`` times the same pattern, whose size is bounded; vLLM's names.

    A pattern of 3 tokens that repeats for ever is also one of 9: ``min_pattern_size`` bounds how much must repeat, and
    not what is found in the end.
    """

    max_pattern_size: int
    min_pattern_size: int
    min_count: int

    def ends(self, tokens: Sequence[int], start: int) -> bool:
        """Return whether the answer that begins at ``tokens[start]`` repeats itself at its end."""
        last, length = tokens[-1], len(tokens) - start
        for size in range(self.min_pattern_size, min(self.max_pattern_size, length // self.min_count) + 1):
            if tokens[-1 - size] == last:
                begin = len(tokens) - size * self.min_count
                if tokens[begin + size :] == tokens[begin:-size]:
                    return True
        return False


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log-probability of a drawn token and of the most likely alternatives, likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...]  # (token id, log-probability)
