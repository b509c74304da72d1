"""An async, typed client for the server's OpenAI routes.

    async with Client("http://127.0.0.1:8000") as client:
        async with aclosing(client.chat([{"role": "user", "content": "Hello"}], max_tokens=64)) as chunks:
            async for chunk in chunks:
                print(chunk.text, end="")

Closing the generator, or cancelling the task that reads it, closes the connection, which cancels the answer at the
server. Without `aclosing`, leaving the loop early would leave that to the garbage collector.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self, Unpack

import aiohttp

from clients import wire
from clients.errors import APIError, ClientError, ConnectionLostError, ServerTimeoutError, UnreachableError
from clients.protocol import ChatOptions, Chunk, Completion, Message, Model
from clients.sse import Comment, decode_stream

_DONE = "[DONE]"
_DRAIN_S = 1.0


class Client:
    """A connection pool to one server. Use it as an async context manager, or call `close`.

    ``base_url`` may end in ``/v1``, as it does for other OpenAI clients. ``read_timeout_s`` bounds the silence between
    two reads, including the wait in the server's queue; an answer may take longer. Every method may raise
    `ClientError`.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 300.0,
    ) -> None:
        self.base_url = base_url.rstrip("/").removesuffix("/v1")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s)
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections, and with them every stream."""
        if self._http is not None:
            await self._http.close()

    async def chat(self, messages: Sequence[Message], **options: Unpack[ChatOptions]) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to ``messages``. Raises `ConnectionLostError` after the text that came if it breaks off."""
        body = {"messages": list(messages), **options, "stream": True, "stream_options": {"include_usage": True}}
        async with self._request("POST", "/v1/chat/completions", body) as response:
            request_id = response.headers.get("X-Request-Id")
            async with aclosing(decode_stream(response.content.iter_any())) as events:
                async for data in events:
                    if data == _DONE:
                        break
                    if isinstance(data, Comment):
                        if (queued := wire.parse_queued(data)) is not None:
                            yield Chunk(request_id=request_id, queued=queued)
                        continue
                    yield wire.parse_chunk(data, request_id)
                else:
                    raise ConnectionLostError("the answer broke off: the server closed the stream")
            await _drain(response)

    async def complete(self, messages: Sequence[Message], **options: Unpack[ChatOptions]) -> Completion:
        """Return the whole answer to ``messages`` once it is complete."""
        body = {"messages": list(messages), **options}
        async with self._request("POST", "/v1/chat/completions", body) as response:
            return wire.parse_completion(await response.read(), response.headers.get("X-Request-Id"))

    async def models(self) -> list[Model]:
        """Return the models on offer."""
        async with self._request("GET", "/v1/models") as response:
            return wire.parse_models(await response.read())

    async def health(self) -> bool:
        """Return whether a live server answers. Never raises `ClientError`."""
        try:
            async with self._request("GET", "/health"):
                return True
        except ClientError:
            return False

    async def readiness(self) -> str:
        """Return ``ready``, or a word for why the server is not ready."""
        async with self._answer("GET", "/ready") as response:
            return wire.parse_readiness(await response.read())

    async def state(self) -> dict[str, Any]:
        """Return what `/debug/state` shows to operators. Raises `AccessDeniedError` without an admin's key."""
        async with self._request("GET", "/debug/state") as response:
            return wire.parse_object(await response.read())

    @asynccontextmanager
    async def _request(self, method: str, path: str, body: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a response of status 200. Leaving it before its end closes its connection."""
        async with self._answer(method, path, body) as response:
            if response.status != 200:
                raise await _refusal(response)
            yield response

    @asynccontextmanager
    async def _answer(self, method: str, path: str, body: Any = None) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a response of any status."""
        http = self._session()
        # A redirect would turn the POST into a GET, so it is an error here.
        request = http.request(method, self.base_url + path, json=body, allow_redirects=False)
        with typed_errors(self.base_url):
            async with request as response:
                yield response

    def _session(self) -> aiohttp.ClientSession:
        # aiohttp binds the session to the running loop, so it is made at first use. Load tests open more than the
        # default of 100 connections.
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._http = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=self._timeout)
        return self._http


async def _refusal(response: aiohttp.ClientResponse) -> APIError:
    return wire.parse_error(response.status, response.headers, await response.read())


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the few bytes after the last event, so that the connection can be reused. The answer is complete already."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            await response.content.read()
    except (TimeoutError, aiohttp.ClientError, OSError):
        response.close()


@contextmanager
def typed_errors(base_url: str) -> Iterator[None]:
    """Translate the exceptions of aiohttp and the decoder into `ClientError`."""
    try:
        yield
    except aiohttp.InvalidURL as error:
        raise UnreachableError(f"{base_url!r} is not an http:// or https:// address") from error
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        raise UnreachableError(f"no server at {base_url}") from error
    except TimeoutError as error:
        raise ServerTimeoutError(f"the server at {base_url} went silent") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise ConnectionLostError(f"the answer broke off: {str(error) or type(error).__name__}") from error
