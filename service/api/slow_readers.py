"""The bound on how long a client that does not read may block a handler."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from service.errors import SlowReaderError


@asynccontextmanager
async def bounded_write(request: web.Request, timeout_s: float) -> AsyncIterator[None]:
    """Abort the connection and raise `SlowReaderError` if the block's writes take longer than ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        abort_connection(request)
        raise SlowReaderError(f"nothing was read for {timeout_s:g} s") from None


def abort_connection(request: web.Request) -> None:
    """Drop the connection and everything in its buffers."""
    if request.transport is not None:
        request.transport.abort()
