"""A plain client of OpenAI's chat route: aiohttp, a new connection for each request, nothing shared with a server."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import aiohttp

SILENCE_S = 600.0  # between two reads; an overloaded server may let a request wait for minutes

Messages = Sequence[dict[str, str]]


class RequestFailedError(Exception):
    """A request was refused, or its answer broke off, or has other than the asked number of tokens."""

    def __init__(self, message: str, status: int = 200) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True)
class Answer:
    """A streamed answer. Times are the loop's, in seconds; ``pieces``: when each chunk with text came.

    ``end`` is when the last chunk of the choice came, whether it had text or not. ``cached_tokens``: prompt tokens
    whose KV was there, None if the server does not say.
    """

    sent: float
    end: float = 0.0
    pieces: list[float] = field(default_factory=list)
    text: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None

    @property
    def ttft(self) -> float:
        """From sending to the first text. An answer whose tokens spell nothing has none before its end."""
        return (self.pieces[0] if self.pieces else self.end) - self.sent

    @property
    def gaps(self) -> list[float]:
        """Between one chunk with text and the next."""
        return [later - earlier for earlier, later in pairwise(self.pieces)]

    @property
    def own_speed(self) -> float:
        """Tokens a second after the first."""
        return (self.completion_tokens - 1) / (self.end - self.sent - self.ttft)

    def take(self, event: dict[str, Any], now: float) -> None:
        """Note an event of the stream. Raises `RequestFailedError` if it is an error."""
        if "error" in event:
            raise RequestFailedError(f"the stream ended with {event['error']}")
        for choice in event.get("choices", ()):
            self.end = now
            if text := choice["delta"].get("content"):
                self.pieces.append(now)
                self.text += text
        if usage := event.get("usage"):
            self.prompt_tokens, self.completion_tokens = usage["prompt_tokens"], usage["completion_tokens"]
            self.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")


class ChatClient:
    """Asks the only model of a server, as an async context."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._model = ""

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._http = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def ask(self, messages: Messages, max_tokens: int, user: str | None = None) -> Answer:
        """Return a greedy answer of ``max_tokens`` tokens. Raises `RequestFailedError`, `aiohttp.ClientError`."""
        model = await self.only_model()
        body = {
            "model": model,
            "messages": messages,
            "max_tokens": max_tokens,
            "ignore_eos": True,  # the same work for all; neither OpenAI's field, but all three servers know it
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({} if user is None else {"user": user}),
        }
        clock = asyncio.get_running_loop().time
        answer = Answer(clock())
        async with self._http.post(f"{self.url}/v1/chat/completions", json=body) as response:
            if response.status != 200:
                raise RequestFailedError(f"http {response.status}: {await response.text()}", response.status)
            async for line in response.content:
                if line.startswith(b"data:") and not line.startswith(b"data: [DONE]"):
                    answer.take(json.loads(line.removeprefix(b"data:")), clock())
        if answer.completion_tokens != max_tokens:
            raise RequestFailedError(f"an answer has {answer.completion_tokens} tokens instead of {max_tokens}")
        return answer

    async def version(self) -> str:
        """Return what the server says of itself, at vLLM's route or at llama-server's; empty if at neither."""
        for route, name in (("/version", "version"), ("/props", "build_info")):
            async with self._http.get(self.url + route) as response:
                if response.status == 200:
                    return str((await response.json()).get(name, ""))
        return ""

    async def only_model(self) -> str:
        """Return the name of the model. Raises `RequestFailedError`, `aiohttp.ClientError`."""
        if not self._model:
            async with self._http.get(f"{self.url}/v1/models") as response:
                if response.status != 200:
                    raise RequestFailedError(f"http {response.status}: {await response.text()}", response.status)
                self._model = (await response.json())["data"][0]["id"]
        return self._model
