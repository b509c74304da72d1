"""The tiny model over HTTP from a simulated GPU: what clients get is what the CPU gives them."""

import asyncio
from typing import Any

import aiohttp
import pytest

from service.execution.gpu.simulated.faults import Delays
from service.execution.gpu.simulated.rounding_kernels import RoundingKernels
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from tests.api.gpu.conftest import Start

QUESTIONS = ("Why is the sky blue?", "Hi", "Tell me of ships, and of shoes, and of sealing wax. " * 4)


async def answers(http: aiohttp.ClientSession) -> list[Any]:
    """Return the answers to all questions at once, sampled, with log-probabilities."""
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
    alone = await answers(await start("--device", "cpu", "--dtype", "float32"))
    gpu = await start("--debug-preempt-every", "5", "--preset", preset, "--dtype", "float32", gpu=late)
    assert await answers(gpu) == alone
    assert 'fastswitch_num_preemptions_total{reason="debug"} 12.0' in await (await gpu.get("/metrics")).text()


@pytest.mark.parametrize("flags", [(), ("--dtype", "float16")], ids=["bfloat16", "float16"])
async def test_narrower_types_move_probabilities_a_little(start: Start, flags: tuple[str, ...]) -> None:
    exact = await answers(await start("--device", "cpu", "--dtype", "float32"))
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
