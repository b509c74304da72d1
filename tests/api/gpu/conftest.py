"""The tiny model over HTTP, from a simulated GPU or from the CPU."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from service.api.server import app_runner
from service.cli.serve import build
from service.config import parse
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from tests.service.simulated_devices import SimulatedDevices

SMALL = ["--max-num-seqs", "4", "--max-num-batched-tokens", "64", "--device-kv", "512KiB", "--host-kv", "1MiB"]

Start = Callable[..., Awaitable[aiohttp.ClientSession]]


@asynccontextmanager
async def _serving(app: web.Application) -> AsyncIterator[aiohttp.ClientSession]:
    runner = app_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
        yield http
    await runner.cleanup()


@pytest.fixture
async def start(tiny_model_path: Path) -> AsyncIterator[Start]:
    """Starts a server, on a GPU if there is one, and gives a client for it."""
    async with AsyncExitStack() as stack:

        async def start_server(*flags: str, gpu: SimulatedRuntime | None = None) -> aiohttp.ClientSession:
            settings = parse(["--model", str(tiny_model_path), *SMALL, *flags])
            devices = SimulatedDevices() if gpu is None else SimulatedDevices(gpu)
            return await stack.enter_async_context(_serving(build(settings, devices=devices)))

        yield start_server
