"""How far a mode's logits are from the reference's: at each position of some windows of tokens, and in sum.

Every window is a sequence of its own. The *gap* of a position is what lies between the reference's two largest logits:
where it is small, either token is as good an answer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.modes import LogitsOf

Floats = NDArray[np.float64]

WINDOW = 512  # tokens

# What a mode may lose, by figure; a perplexity may be neither higher nor lower.
AT_MOST = {"perplexity_change": 0.01, "kl_mean": 0.01, "widest_gap": 0.75}
AT_LEAST = {"argmax_equal": 0.95}


@dataclass(frozen=True, slots=True)
class Positions:
    """What is measured at each position; arrays [windows, tokens]."""

    kl: Floats  # of the mode's distribution from the reference's, in nats
    equal: NDArray[np.bool_]  # the most likely token is the same
    gaps: Floats
    surprisal: Floats  # [windows, tokens - 1]: of the next token, in nats

    @property
    def perplexity(self) -> float:
        """Over all tokens but the windows' first."""
        return float(np.exp(self.surprisal.mean()))

    @property
    def perplexity_of_second_half(self) -> float:
        """Over the tokens that half a window or more precedes, which is what llama.cpp counts."""
        return float(np.exp(self.surprisal[:, self.surprisal.shape[1] // 2 + 1 :].mean()))


def windows_of(tokens: list[int], size: int = WINDOW) -> NDArray[np.int64]:
    """Return the tokens as [windows, size], without a last window that is not full."""
    whole = len(tokens) // size * size
    return np.array(tokens[:whole]).reshape(-1, size)


def measure(modes: Mapping[str, LogitsOf], reference: str, windows: NDArray[np.int64]) -> dict[str, Positions]:
    """Measure each mode against the one of them that is the reference."""
    rows: dict[str, list[Positions]] = {name: [] for name in modes}
    for tokens in windows:
        logits = modes[reference](tokens.tolist())
        for name, logits_of in modes.items():
            rows[name].append(_window(tokens, logits, logits if name == reference else logits_of(tokens.tolist())))
    return {name: _joined(each) for name, each in rows.items()}


def _window(tokens: NDArray[np.int64], expected: NDArray[np.float32], found: NDArray[np.float32]) -> Positions:
    wanted, got = log_softmax(expected), log_softmax(found)
    return Positions(
        np.einsum("tv,tv->t", np.exp(wanted), wanted - got, dtype=np.float64),
        expected.argmax(-1) == found.argmax(-1),
        top_gaps(expected),
        -got[np.arange(len(tokens) - 1), tokens[1:]].astype(np.float64),
    )


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-probabilities; sums are in float64."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True, dtype=np.float64)).astype(np.float32)


def top_gaps(logits: NDArray[np.float32]) -> Floats:
    """Return by how much the largest logit is above the next."""
    second, first = np.moveaxis(np.partition(logits, -2)[:, -2:], -1, 0)
    return (first - second).astype(np.float64)


def _joined(windows: Iterable[Positions]) -> Positions:
    columns = zip(*((each.kl, each.equal, each.gaps, each.surprisal) for each in windows), strict=True)
    return Positions(*map(np.array, columns))


def figures(found: Positions, reference: Positions) -> dict[str, float]:
    """Return what is told of a mode. ``widest_gap``: of the positions where the most likely token differs."""
    return {
        "perplexity": found.perplexity,
        "perplexity_change": found.perplexity / reference.perplexity - 1,
        "perplexity_of_second_half": found.perplexity_of_second_half,
        "kl_mean": float(found.kl.mean()),
        "kl_max": float(found.kl.max()),
        "argmax_equal": float(found.equal.mean()),
        "widest_gap": float(found.gaps[~found.equal].max(initial=0)),
    }


def broken(told: Mapping[str, float]) -> list[str]:
    """Return what of some figures is out of bounds."""
    above = [f"{name} {told[name]:.4g} > {most:g}" for name, most in AT_MOST.items() if abs(told.get(name, 0)) > most]
    below = [f"{name} {told[name]:.4g} < {least:g}" for name, least in AT_LEAST.items() if told.get(name, 1) < least]
    return above + below
