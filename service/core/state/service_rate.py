"""How fast waiting requests have started lately, from which follows how long others will wait."""

import math
from collections import deque

STARTS = 32  # that the rate is learned from
UNKNOWN_RETRY_S = 5.0  # as long as no waiting request has started
SHORTEST_RETRY_S, LONGEST_RETRY_S = 1.0, 60.0


class ServiceRate:
    """Learns from the last `STARTS` starts of requests that had to wait: others say nothing about a queue.

    A start took the time since the one before it, or since the request's own arrival if that is later, so that times
    without a queue do not count. ``seconds_per_start`` is the mean; None before the first.
    """

    def __init__(self) -> None:
        self.seconds_per_start: float | None = None
        self._seconds_per_token = 0.0  # of prompts
        self._starts: deque[tuple[float, int]] = deque(maxlen=STARTS)  # seconds and prompt tokens of each
        self._last_s = -math.inf

    def started(self, prompt_tokens: int, arrival_s: float, now: float) -> None:
        """Note that a request which had to wait has started."""
        self._starts.append((now - max(self._last_s, arrival_s), prompt_tokens))
        self._last_s = now
        seconds = sum(seconds for seconds, _ in self._starts)
        self.seconds_per_start = seconds / len(self._starts)
        self._seconds_per_token = seconds / sum(tokens for _, tokens in self._starts)

    def retry_after_s(self, starts: int = 0, prompt_tokens: int = 0) -> float:
        """Return when that many requests, with that many prompt tokens, are likely to have started."""
        if self.seconds_per_start is None:
            return bounded_retry_s(None)
        return bounded_retry_s(max(starts * self.seconds_per_start, prompt_tokens * self._seconds_per_token))


def bounded_retry_s(wait_s: float | None) -> float:
    """Return when a client that was refused should try again, if it had to wait ``wait_s``; None: that is unknown."""
    return UNKNOWN_RETRY_S if wait_s is None else min(max(wait_s, SHORTEST_RETRY_S), LONGEST_RETRY_S)
