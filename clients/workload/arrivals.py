"""When conversations arrive in an open loop."""

import math

import numpy as np


def arrival_times(
    rng: np.random.Generator, count: int, rate: float, burstiness: float = 1.0, ramp_to: float | None = None
) -> np.ndarray:
    """Draw float64[count] sorted seconds at ``rate`` a second; an infinite rate means all at once.

    Gaps are gamma distributed with shape ``burstiness`` as in `vllm bench serve`: 1 is Poisson, less is burstier, more
    is more even. With ``ramp_to`` the rate changes linearly over time from ``rate`` to ``ramp_to``.
    """
    if math.isinf(rate):
        return np.zeros(count)
    # These are arrivals of a process of rate 1. A ramp only stretches time, by the integral of its rate.
    unit = np.cumsum(rng.gamma(burstiness, 1 / burstiness, count))
    if ramp_to is None or ramp_to == rate or not count:
        return unit / rate
    return _inverse_of_ramp(unit, rate, ramp_to, duration_s=2 * unit[-1] / (rate + ramp_to))


def _inverse_of_ramp(unit: np.ndarray, start: float, end: float, duration_s: float) -> np.ndarray:
    """Solve start t + (end - start) / (2 duration) t**2 = unit for t: float64[count]."""
    slope = (end - start) / duration_s
    return (np.sqrt(np.maximum(0.0, start**2 + 2 * slope * unit)) - start) / slope
