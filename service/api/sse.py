"""Server-sent events, the writing side."""

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
    """One response of ``data:`` events. The first write sends the headers; one that blocks raises `SlowReaderError`."""

    def __init__(self, request: web.Request, write_timeout_s: float) -> None:
        self.response = web.StreamResponse(headers=HEADERS)
        self._request = request
        self._write_timeout_s = write_timeout_s

    async def send(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Write events in one go."""
        await self._write("".join(f"data: {compact(event)}\n\n" for event in events))

    async def comment(self, text: str) -> None:
        """A line that clients skip: proof that the silence is the queue's, or a switch's, and not the network's."""
        await self._write(f": {text}\n\n")

    async def done(self) -> None:
        """OpenAI's end mark."""
        await self._write("data: [DONE]\n\n")

    async def _write(self, text: str) -> None:
        async with bounded_write(self._request, self._write_timeout_s):
            if not self.response.prepared:
                self._request[BEGUN] = self.response
                await self.response.prepare(self._request)
            await self.response.write(text.encode())


def compact(value: Any) -> str:
    """JSON without blanks; text stays UTF-8. Raises ValueError on NaN rather than writing what is not JSON."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
