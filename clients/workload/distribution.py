"""Numbers drawn from distributions."""

import math
from collections.abc import Callable

import numpy as np

from clients.workload.spec import parse_spec


def draw_seconds(text: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw float64[count], none below 0, from the distribution ``text``. Raises ValueError if it is none."""
    spec = parse_spec(text)
    return _DRAW[spec.kind](rng, count, *spec.numbers)


def draw_counts(text: str, rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw int64[count], each at least 1, from the distribution ``text``. Raises ValueError if it is none."""
    counts: np.ndarray = np.maximum(1, np.rint(draw_seconds(text, rng, count))).astype(np.int64)
    return counts


def _fixed(rng: np.random.Generator, count: int, value: float) -> np.ndarray:
    return np.full(count, value)


def _uniform(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high, count)


def _lognormal(rng: np.random.Generator, count: int, mean: float, sigma: float, most: float = math.inf) -> np.ndarray:
    """Draw numbers whose mean is ``mean`` before ``most`` bounds them; ``sigma`` is that of their logarithm."""
    return np.minimum(most, rng.lognormal(math.log(mean) - sigma**2 / 2, sigma, count))


def _zipf(rng: np.random.Generator, count: int, exponent: float, most: float) -> np.ndarray:
    """Draw ranks 1 to ``most`` with probability proportional to rank**-exponent; NumPy's zipf is not bounded."""
    ranks = np.arange(1, int(most) + 1, dtype=np.float64)
    shares = ranks**-exponent
    return rng.choice(ranks, count, p=shares / shares.sum())


def _exponential(rng: np.random.Generator, count: int, mean: float) -> np.ndarray:
    return rng.exponential(mean, count)


_DRAW: dict[str, Callable[..., np.ndarray]] = {
    "fixed": _fixed,
    "uniform": _uniform,
    "lognormal": _lognormal,
    "zipf": _zipf,
    "exponential": _exponential,
}
