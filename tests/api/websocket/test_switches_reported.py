"""What clients and operators see of context switches, on the tiny model with real copies between two pools."""

import math

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.execution.copier import CPUCopier
from service.execution.kv import KVPools, kv_bytes_per_block
from service.execution.models.loading import load_model
from service.execution.runner import CPURunner
from tests.copiers import Cheap

EVERY = 4  # tokens between two evictions
TOKENS = 10
EVICTIONS = (TOKENS - 1) // EVERY


@pytest.fixture(scope="module")
def model(tiny_model_path):
    return load_model(tiny_model_path)


@pytest.fixture
async def live(serve, model):
    """A server that preempts and swaps out every request again and again."""
    sizes = {"pools": KVPools.plain(model.config, 100, 100), "num_slots": 4, "max_batched_tokens": 256}
    runner = CPURunner(model.config, model.weights, **sizes)
    core = {"device_blocks": 100, "host_blocks": 100, "max_num_seqs": 4, "debug_preempt_every": EVERY}
    served = {"vocab_size": model.config.vocab_size, "block_bytes": kv_bytes_per_block(model.config)}
    return await serve(runner, core=core, model=served, copier=Cheap(CPUCopier(runner.pools)))


async def test_a_stream_says_when_it_stands_still_in_comments_that_clients_skip(live):
    async with await live.chat(stream=True, max_tokens=TOKENS) as response:
        comments = [line.decode().strip() async for line in response.content if line.startswith(b":")]
    assert comments == [": preempted", ": resumed"] * EVICTIONS


async def test_usage_reports_what_the_switches_did(live):
    async with await live.chat(max_tokens=TOKENS) as response:
        usage = (await response.json())["usage"]
    figures = usage["fastswitch"]
    assert (figures["preemptions"], figures["recomputed_tokens"]) == (EVICTIONS, 0)
    assert figures["stall_s"] > 0
    assert figures["swapped_bytes"] == await swapped_bytes(live) > 0


async def test_done_reports_the_same_on_the_chat_stream(live, connect):
    peer = await connect(live)
    end = await peer.turn("Hi", max_tokens=TOKENS)
    assert (end["usage"]["preemptions"], end["usage"]["recomputed_tokens"]) == (EVICTIONS, 0)
    assert end["timings"]["stall_s"] > 0
    assert end["usage"]["swapped_bytes"] == await swapped_bytes(live) > 0


async def test_metrics_add_up(live):
    await (await live.chat(max_tokens=TOKENS)).read()
    found = await samples(live)
    assert found["num_preemptions_total", "debug"] == EVICTIONS
    assert found["switch_seconds_count",] == found["stall_seconds_count",] == EVICTIONS
    assert found["switch_seconds_sum",] <= found["stall_seconds_sum",]
    for direction in ("out", "in"):
        assert found["swap_blocks_per_copy_count", direction] == EVICTIONS
        assert found["swap_copies_total", direction] >= EVICTIONS
        assert found["swap_failures_total", direction] == 0
        assert found["link_busy_seconds_total", direction] > 0
    assert found["swap_bytes_total", "out"] <= found["swap_bytes_total", "in"]
    assert found["swaps_in_flight",] == found["num_requests_swapped",] == 0
    assert found["host_kv_blocks_total",] == 100 >= found["host_kv_blocks_used",] > 0
    assert math.isclose(sum(value for (name, *_), value in found.items() if name == "kv_dropped_tokens_total"), 0)


async def swapped_bytes(live) -> float:
    found = await samples(live)
    return found["swap_bytes_total", "out"] + found["swap_bytes_total", "in"]


async def samples(live) -> dict[tuple[str, ...], float]:
    """Samples of /metrics by name without prefix and label values, buckets left out."""
    async with live.http.get("/metrics") as response:
        families = text_string_to_metric_families(await response.text())
        found = [sample for family in families for sample in family.samples]
    return {
        (sample.name.removeprefix("fastswitch_"), *sample.labels.values()): sample.value
        for sample in found
        if not sample.name.endswith("_bucket")
    }
