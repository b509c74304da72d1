"""Measures how late the event loop runs its timers: whatever blocks it delays every client."""

import asyncio
from collections.abc import Callable

PERIOD_S = 0.25


class LoopLag:
    """Calls ``report(seconds)`` a few times a second while it is started."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """On the loop to be measured."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + PERIOD_S, self._tick, loop, loop.time() + PERIOD_S)

    def stop(self) -> None:
        """No more reports."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._report(max(0.0, loop.time() - due))
        self.start()
