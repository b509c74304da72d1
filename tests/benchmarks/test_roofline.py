"""The roofline: what is counted, what is compared with what, and a run over a small model to the page and the plot."""

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from benchmarks.gpu.random_weights import ModelShape
from benchmarks.random_quants import RandomQuants
from benchmarks.record import RESULTS
from benchmarks.roofline import __main__ as command
from benchmarks.roofline import limits, measure
from benchmarks.roofline.costs import KINDS, Cost, Step, cost
from benchmarks.roofline.limits import Limits
from benchmarks.roofline.measure import STEPS, reached
from benchmarks.roofline.page import page
from benchmarks.roofline.plot import draw
from service.execution.forward_pass import forward_pass
from service.execution.kv import KVFormat
from service.execution.models.assemble import assemble
from service.execution.models.packed_weights import PackedWeights
from service.execution.models.weights import ModelWeights
from tests.benchmarks.test_random_weights import CONFIG

SHAPE = ModelShape(replace(CONFIG, num_layers=2), tied=True)
LIMITS = Limits(read=1e9, bytes=100e9, pairs=50e9, floats=25e9)


@pytest.fixture(scope="module")
def weights() -> ModelWeights:
    return assemble(RandomQuants(SHAPE, "Q8_0"), SHAPE.config, SHAPE.tied, PackedWeights("auto"))


def costs(weights: ModelWeights, step: Step) -> Mapping[str, Cost]:
    ops, kv_format = forward_pass(weights), KVFormat.padded(SHAPE.config, "bfloat16")
    return {kind: cost(ops, kind, SHAPE.config, kv_format, step) for kind in KINDS}


def test_operations_are_counted_from_operands(weights: ModelWeights) -> None:
    counted = costs(weights, Step(rows=3, queries=5, context=20))
    layers, tokens = 2, 15
    assert counted["qkv"].operations == layers * 2 * tokens * 256 * (4 + 2 * 2) * 64
    assert counted["attention_out"].operations == layers * 2 * tokens * 256 * 256
    assert counted["gate_up"].operations == layers * 2 * tokens * 256 * 1280
    assert counted["down"].operations == layers * 2 * tokens * 256 * 640
    assert counted["head"].operations == 2 * 3 * 256 * 1000  # of the rows that draw
    assert counted["attention"].operations == layers * 4 * 4 * 64 * 3 * (16 + 17 + 18 + 19 + 20)
    assert {kind: counted[kind].unit for kind in ("down", "attention", "norm")} == {
        "down": "bytes",
        "attention": "pairs",
        "norm": "floats",
    }


def test_weights_and_kv_are_read_once_however_many_tokens_there_are(weights: ModelWeights) -> None:
    one, many = (costs(weights, Step(rows=1, queries=queries, context=64)) for queries in (1, 64))
    head = weights.output.weight.nbytes
    assert 0 <= one["head"].bytes - head < 0.05 * head
    assert one["head"].bytes == many["head"].bytes
    kv = 2 * 2 * 64 * 2 * 64 * 2
    assert 0 < one["attention"].bytes - kv < 0.05 * kv
    assert many["attention"].bytes - one["attention"].bytes == 63 * 64 * (one["attention"].bytes - kv) / 64


def test_the_limit_that_takes_longer_binds() -> None:
    by_memory = reached(Cost(2e9, 100e9, "bytes"), 4.0, LIMITS)
    assert (by_memory.binds, by_memory.share, by_memory.least_ms) == ("read", 0.5, 2000)
    by_products = reached(Cost(1e9, 300e9, "bytes"), 4.0, LIMITS)
    assert (by_products.binds, by_products.share, by_products.least_ms) == ("bytes", 0.75, 3000)


def test_limits_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each rate is that of real work: a CPU reads and computes at least this much."""
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "TRIES", 2)
    found = limits.measure(threads=1)
    assert min(found.read, found.bytes, found.pairs, found.floats) > 1e6


def test_a_run_has_every_kind_in_every_step(weights: ModelWeights, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "TRIES", 2)
    monkeypatch.setattr(measure, "SWEPT_BYTES", 1 << 16)
    monkeypatch.setattr(command, "MODELS", {"small": lambda: (SHAPE.config, weights)})
    figures = command.run(seconds=0)
    steps = figures["models"]["small"]
    assert list(steps) == list(STEPS)
    for step in steps.values():
        assert tuple(step["kinds"]) == KINDS
        assert 0 < step["share"] < 1
        assert all(each["ms"] > 0 for each in step["kinds"].values())
    written = page(figures)
    assert all(f"\n| {kind} | " in written for kind in KINDS)
    assert draw(figures).count("</svg>") == 1


def test_the_page_shows_the_stored_result() -> None:
    stored = json.loads((RESULTS / "roofline.json").read_text())
    assert (command.DOCS / "roofline.md").read_text() == page(stored["figures"])
