"""Server-sent events: the writing side, with a bound on how long a client may block it."""

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from service.errors import SlowReaderError

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would otherwise hold tokens back
}


class EventStream:
    """One response of ``data:`` events. Each write raises `SlowReaderError`, and cuts the connection, after the time-out."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._write_timeout_s = write_timeout_s

    async def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Write events in one go; the first call sends the headers."""
        await self._write("".join(f"data: {compact(event)}\n\n" for event in events))

    async def keep_alive(self) -> None:
        """A comment, which clients skip: proof that the silence is the queue's and not the network's."""
        await self._write(": waiting\n\n")

    async def done(self) -> None:
        """OpenAI's end mark."""
        await self._write("data: [DONE]\n\n")

    async def _write(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._write_timeout_s):
                if not self.response.prepared:
                    await self.response.prepare(self._request)
                await self.response.write(text.encode())
        except TimeoutError:
            cut(self._request)
            raise SlowReaderError(f"nothing was read for {self._write_timeout_s:g} s") from None


def cut(request: web.Request) -> None:
    """Drop the connection and what waits in its buffers."""
    if request.transport is not None:
        request.transport.abort()


def compact(value: Any) -> str:
    """JSON without blanks; text stays UTF-8. Raises ValueError on NaN rather than writing what is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
