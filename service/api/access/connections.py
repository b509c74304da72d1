"""A name for each TCP connection: the tenant of clients that say nothing of themselves."""

import asyncio
import secrets
from collections.abc import Callable

from aiohttp import web


class Connections:
    """Names never come back, as addresses and ports do. Belongs to the event loop.

    aiohttp has no hook for a connection's end, but serves all its requests in one task, which ends with it: after the
    last handler, so what a handler still posts comes before ``gone`` is told the name.
    """

    def __init__(self, gone: Callable[[str], None] = lambda name: None) -> None:
        self._names: dict[asyncio.Task[None], str] = {}
        self._gone = gone

    def name(self, request: web.Request) -> str:
        """The same for all requests of one connection."""
        task = request.task
        if task not in self._names:
            self._names[task] = secrets.token_hex(8)
            task.add_done_callback(self._forget)
        return self._names[task]

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._gone(self._names.pop(task))
