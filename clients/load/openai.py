"""Speaks to any server that streams OpenAI's chat completions as server-sent events."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp

from clients import wire
from clients.client import typed_errors
from clients.errors import APIError, ConnectionLostError, ErrorDetails
from clients.load.target import ServerFigures, TurnRequest
from clients.protocol import Message
from clients.sse import SSEDecoder

DONE = "[DONE]"
CONNECT_TIMEOUT_S = 10.0


class OpenAITarget:
    """Sends independent requests over a pool of connections. Make it inside a running loop."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self._api_key = api_key
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the driver bounds what is in flight
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
        )

    def open_session(self, key: str | None = None) -> "OpenAISession":
        """Begin a conversation."""
        key = key or self._api_key
        return OpenAISession(self._http, self.base_url, {"Authorization": f"Bearer {key}"} if key else {})

    async def get(self, path: str) -> Any:
        """Return the JSON of a route. Raises `ClientError`."""
        with typed_errors(self.base_url):
            headers = self.open_session().headers
            async with self._http.get(self.base_url + path, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise wire.parse_error(response.status, response.headers, await response.read())
                return wire.parse_object(await response.read())

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


class OpenAISession:
    """A conversation that sends its history each time. Closing an answer closes its connection, which cancels it."""

    def __init__(self, http: aiohttp.ClientSession, base_url: str, headers: dict[str, str]) -> None:
        self.headers = headers
        self._http = http
        self._base_url = base_url
        self._response: aiohttp.ClientResponse | None = None

    async def answer(
        self, history: list[Message], request: TurnRequest, figures: ServerFigures
    ) -> AsyncGenerator[str, None]:
        """Post the history and yield the pieces of the answer. Raises `ClientError`."""
        who = {} if request.user is None else {"user": request.user}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        body = {"messages": history, **stream, **who, **request.fields()}
        route = self._base_url + "/v1/chat/completions"
        with typed_errors(self._base_url):
            async with self._http.post(route, json=body, headers=self.headers, allow_redirects=False) as response:
                if response.status != 200:
                    raise wire.parse_error(response.status, response.headers, await response.read())
                self._response = response
                async for text in _pieces(response, figures):
                    yield text

    def vanish(self) -> None:
        """Reset the connection of the current answer, if there is one."""
        if self._response is not None and self._response.connection is not None:
            transport = self._response.connection.transport
            if transport is not None:
                transport.abort()

    async def close(self) -> None:
        """Do nothing: no state is kept between requests."""


async def _pieces(response: aiohttp.ClientResponse, figures: ServerFigures) -> AsyncGenerator[str, None]:
    """Yield texts up to the end mark. The rest of the body is read too, so that the connection can be reused."""
    decoder, ended = SSEDecoder(), False
    async for received in response.content.iter_any():
        for data in decoder.feed(received):
            if data == DONE:
                ended = True
            elif text := _read(data, figures):
                yield text
    if not ended:
        raise ConnectionLostError("the answer broke off: the server closed the stream")


def _read(data: str, figures: ServerFigures) -> str:
    """Return an event's text and copy its usage. It avoids pydantic, since the load test itself must cost little."""
    try:
        event = json.loads(data)
        if event.get("error"):
            raise _error(event["error"])
        if usage := event.get("usage"):
            _copy_usage(usage, figures)
        choices = event.get("choices")
        return (choices[0]["delta"].get("content") or "") if choices else ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ConnectionLostError(f"the server sent something that is not a chunk: {data[:200]}") from error


def _copy_usage(usage: dict[str, Any], figures: ServerFigures) -> None:
    figures.prompt_tokens = usage.get("prompt_tokens")
    figures.completion_tokens = usage.get("completion_tokens")
    details = usage.get("prompt_tokens_details") or {}
    figures.reused = details.get("cached_tokens")
    ours = usage.get("fastswitch") or {}  # only our server sends it, in the last usage of an answer
    figures.recomputed, figures.preemptions = ours.get("recomputed_tokens"), ours.get("preemptions")
    figures.swapped_bytes = ours.get("swapped_bytes")
    figures.queue_s, figures.stall_s = ours.get("queue_s"), ours.get("stall_s")


def _error(error: Any) -> APIError:
    if not isinstance(error, dict):
        return APIError(ErrorDetails(str(error)))
    code = error.get("code") or error.get("type")
    return APIError(ErrorDetails(str(error.get("message")), code=None if code is None else str(code)))
