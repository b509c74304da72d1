"""A sample's mean, maximum and percentiles."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
ENOUGH_ABOVE = 5  # a percentile with fewer samples above it depends on single ones


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile. It is ``sure`` if at least `ENOUGH_ABOVE` samples are expected above it, else reports mark it."""

    quantile: float
    value: float
    sure: bool

    @property
    def name(self) -> str:
        """Its name in reports, such as ``P99.9``."""
        return percentile_name(self.quantile)


@dataclass(frozen=True, slots=True)
class Distribution:
    """Summary of ``n`` samples of one unit."""

    n: int
    mean: float
    maximum: float
    percentiles: tuple[Percentile, ...]


def percentile_name(quantile: float) -> str:
    """Return ``P99.9`` for 0.999."""
    return f"P{100 * quantile:g}"


def distribution(samples: Iterable[float]) -> Distribution | None:
    """Summarise ``samples``; None if there are none.

    Percentiles are NumPy's default: linear between the two neighbours of rank ``quantile * (n - 1)``.
    """
    values = np.fromiter(samples, np.float64)
    if not values.size:
        return None
    found = np.percentile(values, [100 * quantile for quantile in QUANTILES])
    percentiles = (
        Percentile(quantile, float(value), _sure(quantile, values.size))
        for quantile, value in zip(QUANTILES, found, strict=True)
    )
    return Distribution(values.size, float(values.mean()), float(values.max()), tuple(percentiles))


def _sure(quantile: float, n: int) -> bool:
    return round(n * (1 - quantile), 6) >= ENOUGH_ABOVE
