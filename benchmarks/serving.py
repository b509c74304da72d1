"""Measure the default model through the whole service, over real sockets: speed, start-up, event-loop lag, memory."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.record import Figures
from benchmarks.server import PLAIN, Server, running_server
from clients.client import Client

REPEATS = 3
STREAMS = (1, 4, 16)
DECODE_TOKENS = 128
LONG_DECODE_TOKENS = 512  # where sums that grow by whole steps are compared with the clock
NO_MARKS: Mapping[int, asyncio.Barrier] = MappingProxyType({})
PREFILL_TOKENS = 1_000  # about; the exact number is in the answer's usage
QUESTION = "Write a long story about a lighthouse keeper and the sea."


def measure() -> Figures:
    """Return all figures; speeds are medians of three runs."""
    return asyncio.run(_measure())


async def _measure() -> Figures:
    figures = await _start_up()
    async with running_server(*PLAIN) as server, Client(server.url) as client:
        await _decode_rate(client, 1)
        figures["prefill_tokens_per_s"] = await _median(lambda: _prefill_rate(client))
        for streams in STREAMS:
            figures[f"decode_tokens_per_s_{streams}_streams"] = await _median(lambda n=streams: _decode_rate(client, n))
        figures["outside_kernels_share_16_streams"] = await _median(lambda: _outside_kernels_share(server, client, 16))
        figures |= await _loop_lag(server)
        figures["peak_memory_mib"] = server.peak_memory_mib()
    return figures


async def _start_up() -> Figures:
    """Measure spawn to ready: cold with an empty compile cache, warm with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        starts = []
        for _ in range(1 + REPEATS):
            async with running_server(*PLAIN, environment={"NUMBA_CACHE_DIR": cache}) as server:
                starts.append(server.start_s)
    return {"start_cold_s": starts[0], "start_warm_s": statistics.median(starts[1:])}


async def _median(sample) -> float:
    return statistics.median([await sample() for _ in range(REPEATS)])


async def _prefill_rate(client: Client) -> float:
    """Return prompt tokens over the time to the only token of the answer."""
    prompt = f"{time.perf_counter_ns()} " + "The sea is wide and the night is long. " * (PREFILL_TOKENS // 10)
    began = time.perf_counter()
    answer = await client.complete([{"role": "user", "content": prompt}], max_tokens=1, temperature=0)
    elapsed = time.perf_counter() - began
    assert answer.usage is not None
    assert answer.usage.cached_tokens == 0
    return answer.usage.prompt_tokens / elapsed


async def _decode_rate(client: Client, streams: int) -> float:
    """Return tokens a second of all streams together, while all of them decode."""
    runs = await asyncio.gather(*(_stream(client, n) for n in range(streams)))
    begin, end = max(times[0] for times in runs), min(times[-1] for times in runs)
    tokens = sum(begin < moment <= end for times in runs for moment in times)
    return tokens / (end - begin)


async def _outside_kernels_share(server: Server, client: Client, streams: int) -> float:
    """Return the share of the time in which no kernel runs, while all streams decode.

    Kernels are the forward pass as a whole and the draw; the rest is Python, and threads that wake each other.
    """
    marks = {tokens: asyncio.Barrier(streams + 1) for tokens in (LONG_DECODE_TOKENS // 8, LONG_DECODE_TOKENS * 7 // 8)}
    answers = asyncio.gather(*(_stream(client, n, LONG_DECODE_TOKENS, marks) for n in range(streams)))
    spans = []
    for mark in marks.values():
        await mark.wait()
        metrics = await server.metrics()
        kernels_s = metrics["fastswitch_device_seconds_sum"] - metrics["fastswitch_host_seconds_total"]
        spans.append((time.perf_counter(), kernels_s))
    await answers
    (began, kernels_before_s), (ended, kernels_s) = spans
    return 1 - (kernels_s - kernels_before_s) / (ended - began)


async def _stream(
    client: Client, number: int, tokens: int = DECODE_TOKENS, marks: Mapping[int, asyncio.Barrier] = NO_MARKS
) -> list[float]:
    """Return the times at which the tokens of an answer came. At the tokens in ``marks`` it waits for other streams."""
    times = []
    messages = [{"role": "user", "content": f"{number}: {QUESTION}"}]
    async for chunk in client.chat(messages, max_tokens=tokens, temperature=0, ignore_eos=True):
        if chunk.text:  # not the role, the finish reason or the usage
            times.append(time.perf_counter())
            if len(times) in marks:
                await marks[len(times)].wait()
    assert 0.95 * tokens <= len(times) <= tokens
    return times


async def _loop_lag(server: Server) -> Figures:
    """Return how late the event loop ran its timers during all other measurements."""
    metrics = await server.metrics()
    count = metrics["fastswitch_event_loop_lag_seconds_count"]
    return {
        "event_loop_lag_ms_mean": 1e3 * metrics["fastswitch_event_loop_lag_seconds_sum"] / count,
        "event_loop_lag_ms_p99_at_most": 1e3 * _quantile(metrics, "fastswitch_event_loop_lag_seconds", 0.99),
    }


def _quantile(metrics: dict[str, float], name: str, share: float) -> float:
    """Return the upper bound of the histogram bucket that contains the quantile."""
    buckets = {float(key.split("=")[1][:-1]): n for key, n in metrics.items() if key.startswith(name + "_bucket")}
    wanted = share * metrics[name + "_count"]
    return min(bound for bound, count in buckets.items() if count >= wanted)
