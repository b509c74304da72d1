"""A server that answers from a script, on a real socket."""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def event(payload: dict) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + b"\n\n"


def chunk(text: str | None, finish_reason: str | None = None) -> bytes:
    delta = {"role": "assistant", "content": ""} if text is None else {"content": text}
    return event({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def usage(prompt: int, completion: int, cached: int) -> dict:
    details = {"cached_tokens": cached}
    return {"prompt_tokens": prompt, "completion_tokens": completion, "prompt_tokens_details": details}


DONE = b"data: [DONE]\n\n"


class ScriptedServer:
    """Plays one scripted answer for each chat request, in order, and keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict] = []
        self.headers: list = []
        self.peers: list = []
        self.hangs = asyncio.Event()
        self.abandoned = asyncio.Event()
        self.released = asyncio.Event()
        self._answers: deque[Answer] = deque()

    def says(self, *texts: str, finish_reason: str = "stop", prompt: int = 10, cached: int = 0) -> None:
        """Script a whole streamed answer, one text a chunk."""
        end = [chunk("", finish_reason), event({"choices": [], "usage": usage(prompt, len(texts), cached)}), DONE]
        self.sends(chunk(None), *map(chunk, texts), *end)

    def sends(self, *pieces: bytes, hang: bool = False) -> None:
        """Script a stream of writes; with ``hang`` it stays open until the client leaves or ``released`` is set."""

        async def answer(request: web.Request) -> web.StreamResponse:
            headers = {"Content-Type": "text/event-stream", "X-Request-Id": "req-1"}
            response = web.StreamResponse(headers=headers)
            await response.prepare(request)
            try:
                for piece in pieces:
                    await response.write(piece)
                if hang:
                    self.hangs.set()
                    await self.released.wait()
            except asyncio.CancelledError:
                self.abandoned.set()
                raise
            return response

        self._answers.append(answer)

    def refuses(self, status: int, body: str, headers: dict[str, str] | None = None) -> None:
        """Script an answer that is not a stream."""

        async def answer(_: web.Request) -> web.Response:
            return web.Response(status=status, text=body, headers=headers)

        self._answers.append(answer)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Serve the chat route."""
        self.asked.append(await request.json())
        self.headers.append(request.headers)
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        return await self._answers.popleft()(request)

    async def models(self, _: web.Request) -> web.Response:
        """Serve the list of models."""
        return web.json_response({"object": "list", "data": [{"id": "tiny", "max_model_len": 2048}]})

    async def health(self, _: web.Request) -> web.Response:
        """Serve the liveness route."""
        return web.Response()


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", scripted.chat)
    app.router.add_get("/v1/models", scripted.models)
    app.router.add_get("/health", scripted.health)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    scripted.url = f"http://{host}:{port}"
    yield scripted
    await runner.cleanup()


class ScriptedChat:
    """The server of one chat stream, which plays a script for each turn and keeps the requests."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict] = []  # each with the whole history
        self.headers: list = []
        self.begun = asyncio.Event()  # an answer that goes on until it is cancelled
        self.cancelled = asyncio.Event()
        self.confirms = True  # that a turn was cancelled
        self._scripts: deque[tuple[list[str], dict | None]] = deque()
        self._history: list[dict] = []
        self._places: list[dict] = []

    def says(self, *texts: str, finish_reason: str = "stop", prompt: int = 10, cached: int = 0) -> None:
        """Script a whole answer, one text a token."""
        counts = {"prompt_tokens": prompt, "completion_tokens": len(texts), "reused_tokens": cached}
        self._scripts.append(([*texts], {"type": "done", "finish_reason": finish_reason, "usage": counts}))

    def waits(self, *places: dict) -> None:
        """Have the next turn be told these places in the queue first."""
        self._places += places

    def begins(self, *texts: str) -> None:
        """Script an answer that goes on until it is cancelled."""
        self._scripts.append(([*texts], None))

    def refuses(self, status: int, message: str, retry_after_s: float | None = None) -> None:
        """Script a turn that ends with an error."""
        error = {"type": "error", "code": "some_error", "status": status, "message": message}
        self._scripts.append(([], {**error, "retry_after_s": retry_after_s}))

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """Serve the chat stream."""
        self.headers.append(request.headers)
        socket = web.WebSocketResponse(protocols=["fastswitch.v1.json"])
        await socket.prepare(request)
        number, turn = 0, Turn([], 0, [])
        async for message in socket:
            frame = json.loads(message.data)
            match frame.pop("type"):
                case "open":
                    self._history = frame["messages"]
                    await socket.send_json({"type": "opened", "session": "s", "last": 0, "turns": 0})
                case "turn":
                    texts, end = self._scripts.popleft()
                    turn = Turn(frame.pop("messages"), number, texts)
                    self.asked.append({"messages": [*self._history, *turn.added], **frame})
                    while self._places:
                        await socket.send_json({"type": "queued", **self._places.pop(0)})
                    for text in texts:
                        number += 1
                        await socket.send_json({"type": "token", "text": text, "number": number})
                    if end is None:
                        self.begun.set()
                    else:
                        number += 1
                        self._history = turn.history(self._history, number)
                        await socket.send_json({**end, "number": number})
                case "cancel":
                    number += 1
                    self._history = turn.history(self._history, frame["last"])
                    if self.confirms:
                        await socket.send_json({"type": "done", "finish_reason": "cancelled", "number": number})
                    self.cancelled.set()
        return socket


@dataclass(frozen=True)
class Turn:
    """What a turn adds to the history: ``texts`` have the numbers after ``before``."""

    added: list[dict]
    before: int
    texts: list[str]

    def history(self, before: list[dict], last: int) -> list[dict]:
        """Return the history after a client has read up to ``last``."""
        text = "".join(self.texts[: last - self.before])
        return [*before, *self.added, {"role": "assistant", "content": text}] if text else before


@pytest.fixture
async def chat_server() -> AsyncIterator[ScriptedChat]:
    scripted = ScriptedChat()
    app = web.Application()
    app.router.add_get("/v1/chat/stream", scripted.stream)
    app.router.add_get("/v1/models", ScriptedServer().models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    scripted.url = f"http://{host}:{port}"
    yield scripted
    await runner.cleanup()
