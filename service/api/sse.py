"""Server-sent events, as a server writes them."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from aiohttp import web

from service.api.context import BEGUN
from service.api.slow_readers import bounded_write

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would otherwise hold tokens back
}


class EventStream:
    """One response of ``data:`` events. The first write sends the headers. A blocked write raises `SlowReaderError`."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._write_timeout_s = write_timeout_s

    async def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Write events, all at once."""
        await self._write("".join(f"data: {compact(event)}\n\n" for event in events))

    async def comment(self, text: str) -> None:
        """Write a line that clients skip, as proof that the queue or a switch, not the network, is silent."""
        await self._write(f": {text}\n\n")

    async def done(self) -> None:
        """Write OpenAI's end mark."""
        await self._write("data: [DONE]\n\n")

    async def _write(self, text: str) -> None:
        async with bounded_write(self._request, self._write_timeout_s):
            if not self.response.prepared:
                self._request[BEGUN] = self.response
                await self.response.prepare(self._request)
            await self.response.write(text.encode())


def compact(value: Any) -> str:
    """Return JSON without blanks and ASCII escapes. Raises ValueError for NaN, which JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
