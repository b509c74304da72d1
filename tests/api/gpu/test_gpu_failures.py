"""What clients and operators see over HTTP when a simulated GPU fails."""

import asyncio
from typing import Any

import aiohttp
import pytest

from service.execution.gpu.simulated.faults import Armed, Faults, Stall, Work, exhausting_device, losing_device
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from tests.api.conftest import PATIENCE_S
from tests.api.gpu.conftest import Start

LEAST_KV = 1024  # bytes: what leaves the device is KV, or what a step drew, which is smaller


def leaves(work: Work) -> bool:
    """Return whether KV is being swapped out."""
    return work.name == "copy-out" and work.num_bytes >= LEAST_KV


def multiplies(work: Work) -> bool:
    return work.name == "linear"


async def chat(http: aiohttp.ClientSession, content: str = "Hi", max_tokens: int = 12) -> aiohttp.ClientResponse:
    messages = [{"role": "user", "content": content}]
    body = {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "ignore_eos": True}
    return await http.post("/v1/chat/completions", json=body)


async def content(response: aiohttp.ClientResponse) -> str:
    assert response.status == 200, await response.text()
    answer: str = (await response.json())["choices"][0]["message"]["content"]
    return answer


async def state(http: aiohttp.ClientSession, path: str = "/health") -> tuple[int, str]:
    response = await http.get(path)
    return response.status, (await response.json())["status"]


async def error(response: aiohttp.ClientResponse) -> dict[str, Any]:
    found: dict[str, Any] = (await response.json())["error"]
    assert found["request_id"] == response.headers["X-Request-Id"]
    return found


async def started(start: Start, *flags: str) -> tuple[aiohttp.ClientSession, Armed]:
    """A server on a GPU that works until its faults are armed."""
    faults = Armed()
    return await start("--dtype", "float32", *flags, gpu=SimulatedRuntime(faults=faults)), faults


async def test_others_are_answered_while_a_copy_stalls_and_then_all_goes_on(start: Start) -> None:
    alone = await content(await chat(await start("--device", "cpu")))
    http, faults = await started(start, "--debug-preempt-every", "5", "--hang-timeout", "0.5")
    stall = Stall(leaves)
    faults.arm(stall)
    stalled = asyncio.create_task(chat(http))
    assert await asyncio.to_thread(stall.reached, PATIENCE_S)
    assert len(await content(await chat(http, "Hello", max_tokens=4))) > 0
    async with asyncio.timeout(PATIENCE_S):
        while await state(http) != (503, "hung"):
            assert not stalled.done()
    stall.release()
    assert await content(await stalled) == alone
    assert await state(http) == (200, "ok")


@pytest.mark.parametrize("refused", [True, False])
async def test_a_step_without_memory_ends_its_requests_with_the_numbers_and_the_next_is_served(
    start: Start, refused: bool
) -> None:
    alone = await content(await chat(await start("--device", "cpu")))
    http, faults = await started(start)
    faults.arm(exhausting_device(multiplies, 40, 41, refused=refused))
    answer = await chat(http)
    found = await error(answer)
    assert (answer.status, found["code"], answer.headers["Retry-After"]) == (503, "out_of_memory", "5")
    assert found["message"].startswith("simulated:0: memory asked for, 0 bytes of 1 GiB free")
    assert await state(http) == (200, "ok")
    assert await content(await chat(http)) == alone


@pytest.mark.parametrize(
    "faults",
    [losing_device(multiplies, 40), losing_device(leaves, 0)],
    ids=["by a step", "by a copy"],
)
async def test_a_lost_device_ends_all_answers_and_the_server_asks_for_a_restart(start: Start, faults: Faults) -> None:
    http, armed = await started(start, "--debug-preempt-every", "5")
    armed.arm(faults)
    for answer in [*await asyncio.gather(chat(http), chat(http, "Hello")), await chat(http)]:
        found = await error(answer)
        assert (answer.status, found["code"], found["message"][:8]) == (503, "device_lost", "injected")
    assert (await state(http), await state(http, "/ready")) == ((503, "failed"), (503, "failed"))
