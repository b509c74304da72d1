"""Hundreds of connections, idle, active and broken at any point: afterwards the process is what it was before.

Descriptors, tasks, threads, sessions and blocks are what they were at the start. Memory is what it was after the first
of two rounds, which fills caches and pools: objects by type, and, within a bound, what the system counts.
"""

import asyncio
import gc
import os
import resource
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import psutil
import pytest
from aiohttp import web

from service.api.context import DOOR, EXECUTOR
from service.api.executor import PREPARING_THREADS
from service.api.operations.history import Record

IDLE, ACTIVE, BROKEN = 500, 64, 200
ROUNDS = 2
COUNTED = ("service.", "aiohttp.web_ws.", "asyncio.selector_events.", "_asyncio.")
GROWTH_BYTES = 16 << 20  # of resident memory after the first round; the allocator keeps some of what was freed
ENDLESS = {"max_tokens": 50_000}


@pytest.fixture(autouse=True)
def descriptors() -> Iterator[None]:
    """Allow descriptors for both ends of every connection."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def counted() -> Counter[str]:
    """Objects of the service, aiohttp's WebSockets, transports, tasks and futures, by type.

    Without those of the history of requests and of the simulated KV, which fill up to a bound.
    """
    gc.collect()
    kinds = (type(each) for each in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if kind is not Record)
    return Counter(name for name in names if name.startswith(COUNTED) and not name.startswith("service.simulation."))


def held() -> dict[str, int]:
    """The resources that the process holds."""
    return {
        "descriptors": len(os.listdir("/proc/self/fd")),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
    }


async def one_round(live, connect) -> None:
    """All sorts of connections at once; a quarter of those that break are HTTP streams, a quarter are idle."""
    idle = await asyncio.gather(*(connect(live) for _ in range(IDLE)))
    active = await asyncio.gather(*(connect(live) for _ in range(ACTIVE)))
    broken = await asyncio.gather(*(connect(live) for _ in range(BROKEN // 2)))
    streams = await asyncio.gather(*(live.chat(stream=True, **ENDLESS) for _ in range(BROKEN // 4)))
    await asyncio.gather(*(peer.send("turn", content="Hi", **ENDLESS) for peer in broken))
    answers = [asyncio.create_task(peer.turn(max_tokens=20)) for peer in active]
    await asyncio.gather(*(peer.until("token") for peer in broken), *(stream.content.readline() for stream in streams))
    for peer in [*broken, *idle[: BROKEN // 4]]:
        peer.kill()
    for stream in streams:
        stream.connection.transport.abort()
    assert {end["finish_reason"] for end in await asyncio.gather(*answers)} == {"length"}
    for peer in active:
        await peer.send("close")
    assert set(await asyncio.gather(*(peer.closed() for peer in active))) == {1000}
    await asyncio.gather(*(peer.socket.close() for peer in idle))


async def all_over(live) -> None:
    """Wait for everything that ends by itself."""
    over = ("chat_sessions", "websocket_connections", "num_requests_running", "num_requests_waiting", "idle_sessions")
    kv = ("kv_blocks_used", "kv_blocks_reserved")  # what is still shared expires
    await live.until(lambda gauges: not any(gauges[name] for name in (*over, *kv, "num_requests_preempted")))
    assert live.app[DOOR].inside == 0
    live.engine._core.check()
    gc.collect()
    for socket in [each for each in gc.get_objects() if type(each) is web.WebSocketResponse]:
        socket._cancel_heartbeat()  # its end crossed a message: aiohttp keeps it until its ping timer rings


async def earlier_tests_over() -> None:
    """Wait for threads of other tests, which end when their objects are collected."""
    gc.collect()
    threads = 0
    while threads != (threads := threading.active_count()):  # noqa: ASYNC110 - threads have no event for it
        await asyncio.sleep(0.2)


async def fill_threads(live) -> None:
    """Have the server start all threads that it ever starts."""
    meeting = threading.Barrier(PREPARING_THREADS)
    loop, executor = asyncio.get_running_loop(), live.app[EXECUTOR]
    await asyncio.gather(*(loop.run_in_executor(executor, meeting.wait) for _ in range(PREPARING_THREADS)))


async def test_descriptors_tasks_blocks_and_memory_return_to_the_start(serve, connected):
    live = await serve(
        core={"max_num_seqs": 256, "max_num_batched_tokens": 2048, "device_blocks": 4096, "session_ttl_s": 0.1},
        limits={"ping_s": 600.0, "reconnect_grace_s": 0.01, "session_ttl_s": 0.01},
    )
    await fill_threads(live)
    await live.gauges()
    await earlier_tests_over()
    start = held()
    rounds = []
    for _ in range(ROUNDS):
        async with connected() as connect, aiohttp.ClientSession(live.url) as http:
            await one_round(replace(live, http=http), connect)
        await all_over(live)
        rounds.append((counted(), psutil.Process().memory_info().rss))
        assert held() == start
    (objects_before, memory_before), (objects, memory) = rounds
    assert objects - objects_before == Counter()
    assert memory - memory_before < GROWTH_BYTES
