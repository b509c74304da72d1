"""An open loop of streaming requests over real sockets: plain aiohttp, which shares no code with the server.

Every request is sent when it is due, however late the others are, with its tenant's key. What is not answered when the
time is up is cut off by closing its connection, and recorded as it was.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.fairness.keys import bearer
from clients.load.words import Writer
from clients.report import Outcome, TurnRecord
from clients.trace import Trace, TraceConversation

ROUTE = "/v1/chat/completions"


@dataclass(slots=True)
class Answer:
    """What came of a request so far; times are on the loop's clock. A piece is a chunk with new tokens."""

    sent: float
    pieces: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    complete: bool = False

    def take(self, event: dict[str, Any], now: float) -> None:
        """Note a chunk; each carries the counts so far."""
        if "error" in event:
            self.error = str(event["error"].get("code"))
        if usage := event.get("usage"):
            if usage["completion_tokens"] > self.usage.get("completion_tokens", 0):
                self.pieces.append(now)
            self.usage = usage


@dataclass(frozen=True, slots=True)
class Player:
    """Plays traces against a server. ``keys``: by tenant. ``flex``: the tenants that ask for background service."""

    url: str
    keys: Mapping[str, str]
    flex: frozenset[str] = frozenset()

    async def play(self, trace: Trace, texts: Trace, seconds: float) -> list[TurnRecord]:
        """Send the requests of ``trace`` for so many seconds, with the messages that they have in ``texts``."""
        clock = asyncio.get_running_loop().time
        writer = Writer(texts)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as http:
            began = clock()
            tasks = [
                asyncio.create_task(self._one(http, began, request, writer.message(request, 0)))
                for request in trace.conversations
            ]
            await asyncio.sleep(began + seconds - clock())
            for task in tasks:
                task.cancel()
            records = await asyncio.gather(*tasks)
        return [record for record in records if record is not None]

    async def _one(
        self, http: aiohttp.ClientSession, began: float, request: TraceConversation, text: str
    ) -> TurnRecord | None:
        """Return the record of a request; None if the time was up before it was due."""
        clock = asyncio.get_running_loop().time
        answer = None
        try:
            await asyncio.sleep(began + (request.arrival_s or 0.0) - clock())
            answer = Answer(clock())
            await self._ask(http, self._body(request, text), self.keys[request.tenant], answer)
        except asyncio.CancelledError:  # the time is up: the record says how far the answer came
            pass
        except aiohttp.ClientError as error:
            assert answer is not None
            answer.error = type(error).__name__
        return None if answer is None else _record(request, answer, began, clock)

    def _body(self, request: TraceConversation, text: str) -> dict[str, Any]:
        return {
            "messages": [{"role": "user", "content": text}],
            "max_tokens": request.turns[0].max_tokens,
            "ignore_eos": True,  # all policies do the same work
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
            **({"service_tier": "flex"} if request.tenant in self.flex else {}),
        }

    async def _ask(self, http: aiohttp.ClientSession, body: dict[str, Any], key: str, answer: Answer) -> None:
        clock = asyncio.get_running_loop().time
        async with http.post(self.url + ROUTE, json=body, headers=bearer(key)) as response:
            if response.status != 200:
                answer.error = f"http {response.status}"
                return
            async for line in response.content:
                data = line.removeprefix(b"data:").strip()
                if data == b"[DONE]":
                    answer.complete = answer.error is None
                elif line.startswith(b"data:"):
                    answer.take(json.loads(data), clock())


def _record(request: TraceConversation, answer: Answer, began: float, clock: Callable[[], float]) -> TurnRecord:
    broken = Outcome.DISCONNECTED if answer.error is None else Outcome.ERROR
    usage = answer.usage
    return TurnRecord(
        conversation=request.id,
        turn=0,
        tenant=request.tenant,
        priority=0,
        warmup=False,
        scheduled_s=request.arrival_s or 0.0,
        sent_s=answer.sent - began,
        end_s=clock() - began,
        piece_s=tuple(at - began for at in answer.pieces),
        outcome=Outcome.OK if answer.complete else broken,
        error=answer.error,
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        reused=(usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
    )
