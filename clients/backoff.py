"""When to try again: exponentially later, and never all clients at once."""

import random
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """``attempts`` tries; before try n, a random time up to ``first_s`` * 2^n, at most ``longest_s``.

    The randomness is the "full jitter" of AWS' architecture blog: clients that a server lost together come back apart.
    """

    first_s: float = 0.25
    longest_s: float = 5.0
    attempts: int = 10

    def delays(self) -> Iterator[float]:
        """Seconds to wait before each try."""
        for attempt in range(self.attempts):
            yield random.uniform(0, min(self.longest_s, self.first_s * 2**attempt))
