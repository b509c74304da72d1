"""A measure of how late the event loop runs its timers, because whatever blocks it delays every client."""

import asyncio
from collections.abc import Callable

PERIOD_S = 0.25


class LoopLag:
    """Calls ``report(seconds)`` a few times a second between `start` and `stop`."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure the running loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + PERIOD_S, self._tick, loop, loop.time() + PERIOD_S)

    def stop(self) -> None:
        """End the reports."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._report(max(0.0, loop.time() - due))
        self.start()
