"""The tiny model over HTTP from a simulated GPU: what clients get is what the CPU gives them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from service.api.server import app_runner
from service.cli.serve import build
from service.config import parse
from service.execution.gpu.faults import Delays
from service.execution.gpu.rounding_kernels import RoundingKernels
from service.execution.gpu.simulated_runtime import SimulatedRuntime
from tests.service.simulated_devices import SimulatedDevices

SMALL = ["--max-num-seqs", "4", "--max-num-batched-tokens", "64", "--device-kv", "512KiB", "--host-kv", "1MiB"]
QUESTIONS = ("Why is the sky blue?", "Hi", "Tell me of ships, and of shoes, and of sealing wax. " * 4)

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


async def answers(http: aiohttp.ClientSession) -> list[Any]:
    """Of all questions at once, sampled, with log-probabilities."""
    bodies = [
        {
            "messages": [{"role": "user", "content": question}],
            "max_tokens": 24,
            "ignore_eos": True,
            "seed": number,
            "temperature": 0.8 * number,
            "presence_penalty": 0.5 * number,
            "logprobs": True,
            "top_logprobs": 2,
        }
        for number, question in enumerate(QUESTIONS)
    ]
    responses = await asyncio.gather(*(http.post("/v1/chat/completions", json=body) for body in bodies))
    found = [await response.json() for response in responses]
    return [(answer["choices"][0]["message"], answer["choices"][0]["logprobs"]) for answer in found]


@pytest.mark.parametrize("preset", ["full", "groups+reuse+async", "vllm-0.3.3", "vllm-recompute"])
async def test_answers_are_the_cpus_whatever_moves_meanwhile(start: Start, preset: str) -> None:
    late = SimulatedRuntime(faults=Delays(seed=1, longest_s=0.001))
    alone = await answers(await start("--device", "cpu"))
    gpu = await start("--debug-preempt-every", "5", "--preset", preset, "--dtype", "float32", gpu=late)
    assert await answers(gpu) == alone
    assert 'fastswitch_num_preemptions_total{reason="debug"} 12.0' in await (await gpu.get("/metrics")).text()


@pytest.mark.parametrize("flags", [(), ("--dtype", "float16")], ids=["bfloat16", "float16"])
async def test_narrower_types_move_probabilities_a_little(start: Start, flags: tuple[str, ...]) -> None:
    exact = await answers(await start("--device", "cpu"))
    rounded = await answers(await start(*flags, gpu=SimulatedRuntime(kernels=RoundingKernels())))
    for (_, one), (_, other) in zip(exact, rounded, strict=True):
        likeliest = [answer["content"][0]["top_logprobs"][0]["logprob"] for answer in (one, other)]
        assert likeliest[0] != likeliest[1]
        assert likeliest[0] == pytest.approx(likeliest[1], abs=0.1)


async def test_operators_see_which_device_serves(start: Start) -> None:
    http = await start("--dtype", "float32", gpu=SimulatedRuntime())
    state = await (await http.get("/debug/state")).json()
    assert state["device"] == {"device": "simulated:0", "name": "simulated", "dtype": "float32"}
    metrics = await (await http.get("/metrics")).text()
    assert 'fastswitch_device_info{device="simulated:0",dtype="float32",name="simulated"} 1.0' in metrics
