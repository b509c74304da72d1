"""Any server that speaks OpenAI's chat completions, streamed as server-sent events."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from clients import wire
from clients.client import typed_errors
from clients.errors import APIError, ConnectionLostError, ErrorDetails
from clients.load.target import Asked, Told
from clients.protocol import Message
from clients.sse import SSEDecoder

DONE = "[DONE]"
CONNECT_TIMEOUT_S = 10.0


class OpenAITarget:
    """Requests are independent of each other; connections are kept and reused. Use it inside a running loop."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self._api_key = api_key
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the driver bounds what is in flight
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    def talk(self, key: str | None = None) -> "OpenAITalk":
        """Begin a conversation."""
        key = key or self._api_key
        return OpenAITalk(self._http, self.base_url, {"Authorization": f"Bearer {key}"} if key else {})

    async def get(self, path: str) -> Any:
        """The JSON of a route. Raises `ClientError`."""
        with typed_errors(self.base_url):
            headers = self.talk().headers
            async with self._http.get(self.base_url + path, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise wire.parse_error(response.status, response.headers, await response.read())
                return wire.parse_object(await response.read())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


class OpenAITalk:
    """A conversation whose history goes with each request. Closing an answer closes its connection: that cancels."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, headers: dict[str, str]) -> None:
        self.headers = headers
        self._http = http
        self._base_url = base_url
        self._response: aiohttp.ClientResponse | None = None

    async def answer(self, history: list[Message], asked: Asked, told: Told) -> AsyncGenerator[str, None]:
        """Post the history and yield what comes. Raises `ClientError`."""
        who = {} if asked.user is None else {"user": asked.user}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        body = {"messages": history, **stream, **who, **asked.fields()}
        route = self._base_url + "/v1/chat/completions"
        with typed_errors(self._base_url):
            async with self._http.post(route, json=body, headers=self.headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise wire.parse_error(response.status, response.headers, await response.read())
                self._response = response
                async for text in _pieces(response, told):
                    yield text

    def vanish(self) -> None:
        """Reset the connection of the answer under way, if there is one."""
        if self._response is not None and self._response.connection is not None:
            transport = self._response.connection.transport
            if transport is not None:
                transport.abort()

    async def close(self) -> None:
        """Nothing is kept between requests."""


async def _pieces(response: aiohttp.ClientResponse, told: Told) -> AsyncGenerator[str, None]:
    """Texts up to the end mark. The rest of the body is read too, so that the connection can be used again."""
    decoder, ended = SSEDecoder(), False
    async for received in response.content.iter_any():
        for data in decoder.feed(received):
            if data == DONE:
                ended = True
            elif text := _read(data, told):
                yield text
    if not ended:
        raise ConnectionLostError("the answer broke off: the server closed the stream")


def _read(data: str, told: Told) -> str:
    """The text of one event; its usage goes into ``told``. Not pydantic: the load test must cost little itself."""
    try:
        event = json.loads(data)
        if event.get("error"):
            raise _error(event["error"])
        if usage := event.get("usage"):
            _note(usage, told)
        choices = event.get("choices")
        return (choices[0]["delta"].get("content") or "") if choices else ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConnectionLostError(f"the server sent something that is not a chunk: {data[:200]}") from error


def _note(usage: dict[str, Any], told: Told) -> None:
    told.prompt_tokens = usage.get("prompt_tokens")
    told.completion_tokens = usage.get("completion_tokens")
    details = usage.get("prompt_tokens_details") or {}
    told.reused = details.get("cached_tokens")
    figures = usage.get("fastswitch") or {}  # ours alone; in the last usage of an answer
    told.recomputed, told.preemptions = figures.get("recomputed_tokens"), figures.get("preemptions")
    told.swapped_bytes = figures.get("swapped_bytes")
    told.queue_s, told.stall_s = figures.get("queue_s"), figures.get("stall_s")


def _error(error: Any) -> APIError:
    if not isinstance(error, dict):
        return APIError(ErrorDetails(str(error)))
    code = error.get("code") or error.get("type")
    return APIError(ErrorDetails(str(error.get("message")), code=None if code is None else str(code)))
