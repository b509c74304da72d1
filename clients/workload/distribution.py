"""Distributions in a word: ``fixed:128``, ``uniform:64,128``, ``lognormal:161,0.8``, ``zipf:1.5,1000``, and so on.

A bare number is fixed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

_Draw = Callable[[np.random.Generator, int], np.ndarray]  # how many -> float64[how many]

HELP = "a number, or fixed:N, uniform:LOW,HIGH, lognormal:MEAN,SIGMA[,MOST], zipf:EXPONENT,MOST, exponential:MEAN"


@dataclass(frozen=True, slots=True)
class Distribution:
    """Draws non-negative numbers."""

    draw: _Draw

    def seconds(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """float64[count]."""
        return np.maximum(0.0, self.draw(rng, count))

    def counts(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """int64[count], each at least 1."""
        return np.maximum(1, np.rint(self.draw(rng, count))).astype(np.int64)


def parse_distribution(spec: str) -> Distribution:
    """Read one. Raises ValueError that says what is wrong."""
    kind, colon, rest = spec.partition(":")
    if not colon:
        kind, rest = "fixed", spec
    try:
        numbers = [float(number) for number in rest.split(",")]
    except ValueError:
        raise ValueError(f"{spec!r} is no distribution: {HELP}") from None
    if kind not in _KINDS or len(numbers) not in _KINDS[kind][0] or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{spec!r} is no distribution: {HELP}")
    if min(numbers) < 0:
        raise ValueError(f"{spec!r} has a negative number")
    return Distribution(_KINDS[kind][1](*numbers))


def _checked(spec: str) -> str:
    parse_distribution(spec)
    return spec


DistributionSpec = Annotated[str, AfterValidator(_checked)]


def _fixed(value: float) -> _Draw:
    return lambda rng, count: np.full(count, value)


def _uniform(low: float, high: float) -> _Draw:
    if high < low:
        raise ValueError(f"uniform:{low:g},{high:g} has its bounds the wrong way round")
    return lambda rng, count: rng.uniform(low, high, count)


def _lognormal(mean: float, sigma: float, most: float = math.inf) -> _Draw:
    """``mean`` is that of the drawn numbers, before ``most`` cuts them; ``sigma`` is that of their logarithm."""
    if mean <= 0:
        raise ValueError("the mean of a lognormal is above 0")
    return lambda rng, count: np.minimum(most, rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, count))


def _zipf(exponent: float, most: float) -> _Draw:
    """Ranks 1 to ``most`` with probability proportional to rank**-exponent: unlike numpy's, bounded."""
    if most < 1:
        raise ValueError("zipf draws up to at least 1")
    ranks = np.arange(1, int(most) + 1, dtype=np.float64)
    shares = ranks**-exponent
    shares /= shares.sum()
    return lambda rng, count: rng.choice(ranks, count, p=shares)


def _exponential(mean: float) -> _Draw:
    return lambda rng, count: rng.exponential(mean, count)


_KINDS: dict[str, tuple[tuple[int, ...], Callable[..., _Draw]]] = {
    "fixed": ((1,), _fixed),
    "uniform": ((2,), _uniform),
    "lognormal": ((2, 3), _lognormal),
    "zipf": ((2,), _zipf),
    "exponential": ((1,), _exponential),
}
