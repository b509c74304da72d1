"""A name for each TCP connection, by which the conversations of clients without a key and a user are told apart."""

import asyncio
import secrets
from collections.abc import Callable

from aiohttp import web


class Connections:
    """The names of all open connections. Unlike addresses and ports, names are never reused. Belongs to the event loop.

    aiohttp has no hook for a connection's end, but serves all its requests in one task, which ends with it. That is
    after the last handler, so ``on_close(name)`` follows everything that a handler posts.
    """

    def __init__(self, on_close: Callable[[str], None] = lambda name: None) -> None:
        self._names: dict[asyncio.Task[None], str] = {}
        self._on_close = on_close

    def name(self, request: web.Request) -> str:
        """Return the connection's name, the same for all its requests."""
        task = request.task
        if task not in self._names:
            self._names[task] = secrets.token_hex(8)
            task.add_done_callback(self._forget)
        return self._names[task]

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._on_close(self._names.pop(task))
