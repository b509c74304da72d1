"""Delays between attempts: exponentially longer, and random, so that clients do not come back at once."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Allows ``attempts`` attempts; before attempt n it waits a random time up to ``first_s`` * 2^n or ``longest_s``.

    The randomness is the "full jitter" of AWS' architecture blog: clients that lost a server together return apart.
    """

    first_s: float = 0.25
    longest_s: float = 5.0
    attempts: int = 10

    def delays(self) -> Iterator[float]:
        """Yield the seconds to wait before each attempt."""
        for attempt in range(self.attempts):
            yield random.uniform(0, min(self.longest_s, self.first_s * 2**attempt))
