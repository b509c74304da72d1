"""A bound on how long a client that does not read may block us."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.errors import SlowReaderError


@asynccontextmanager
async def bounded_write(request: web.Request, timeout_s: float) -> AsyncIterator[None]:
    """Writes in the block must get on within ``timeout_s``; else the connection is cut, `SlowReaderError` raised."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        abort_connection(request)
        raise SlowReaderError(f"nothing was read for {timeout_s:g} s") from None


def abort_connection(request: web.Request) -> None:
    """Drop the connection and what waits in its buffers."""
    if request.transport is not None:
        request.transport.abort()
