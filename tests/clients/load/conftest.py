"""A server that answers by the clock, and fixtures to load it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from aiohttp import web

from benchmarks.stub_server import StubServer
from clients.load.driver import Driver, Rules, Transcript
from clients.load.openai import OpenAITarget
from clients.load.target import Target
from clients.load.words import Writer
from clients.trace import Trace, TraceConversation, TraceTurn


class TimedServer(StubServer):
    """Sends nothing while ``gate`` is closed."""

    def __init__(self, scripts: Callable[[int], Sequence[float]]) -> None:
        super().__init__(scripts)
        self.url = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def until(self, moment: float) -> None:
        await super().until(moment)
        await self.gate.wait()


Timed = Callable[[Callable[[int], Sequence[float]]], Any]


@pytest.fixture
async def timed() -> AsyncIterator[Timed]:
    """Starts a `TimedServer`; its argument gives the delays of request number n."""
    runners: list[web.AppRunner] = []

    async def start(scripts: Callable[[int], Sequence[float]]) -> TimedServer:
        server = TimedServer(scripts)
        runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return server

    yield start
    for runner in runners:
        await runner.cleanup()


def conversations(
    count: int, every_s: float = 0.0, turns: Sequence[TraceTurn] = (TraceTurn(5, 8),), **fields: Any
) -> Trace:
    """Return ``count`` conversations of the same turns, at regular times."""
    made = [TraceConversation(f"c{number}", number * every_s, tuple(turns), **fields) for number in range(count)]
    return Trace(tuple(made))


@pytest.fixture
async def play() -> AsyncIterator[Callable[..., Any]]:
    """Plays a trace to its end against an OpenAI server, unless ``target`` is another; returns its driver."""
    targets: list[Target] = []

    async def drive(
        url: str, trace: Trace, target: Target | None = None, transcript: Transcript | None = None, **rules: Any
    ) -> Driver:
        targets.append(target or OpenAITarget(url))
        settings = Rules(**{"model": "m", "run": "r", "timeout_s": 30.0, **rules})
        driver = Driver(trace, targets[-1], Writer(trace), settings, transcript)
        await driver.run()
        return driver

    yield drive
    for target in targets:
        await target.close()


@pytest.fixture
def trace_of() -> Callable[..., Trace]:
    return conversations
