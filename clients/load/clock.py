"""Seconds since a run's start."""

import asyncio
import time


class Clock:
    """Counts seconds from its own creation."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def now(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self._start

    async def sleep_until(self, due_s: float) -> None:
        """Return at ``due_s``, at once if that is past. The time is absolute, so that lateness does not add up."""
        delay = due_s - self.now()
        if delay > 0:
            await asyncio.sleep(delay)
