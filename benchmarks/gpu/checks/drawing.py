"""Checks of the ops on logits and tokens, at a model's vocabulary; in float32, the type of logits under every model."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.gpu.checks.check import Check
from benchmarks.gpu.checks.comparing import EXACT, Case, check_case, normal, unwritten
from benchmarks.gpu.under_test import GPUUnderTest
from service.execution.gpu.runtime import Stream
from service.execution.memory import Kernels

ROWS = 9
SLOTS = np.array([8, 0, 3, 7, 1, 2, 6, 5, 4], np.int32)
COUNT = 5  # alternatives


def drawing_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield a check for every op between the logits and the next step's input."""
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        ops = gpu.runtime.ops(stream)
    for model, shape in gpu.scale.op_shapes.items():
        for name, case in _cases(shape.config.vocab_size):
            yield Check(f"{name}, {model}", partial(_run, gpu, ops, stream, case))


def _run(gpu: GPUUnderTest, ops: Kernels, stream: Stream, case: Case) -> str:
    check_case(gpu, ops, stream, case, "float32")
    return ""


def _cases(vocab: int) -> Iterator[tuple[str, Case]]:
    logits = 3 * normal((1,), ROWS, vocab)
    yield from _tokens(vocab)
    yield from _adjustments(logits)
    yield from _draws(logits)
    rows = np.array([7, 0, 4], np.int32)
    tokens = logits.argsort(axis=1)[:, -3].astype(np.int32)
    arguments = (logits, rows, tokens, unwritten(3), np.full((3, COUNT), -1, np.int32), unwritten(3, COUNT))
    yield "top_logprobs", Case("top_logprobs", arguments, writes=(3, 4, 5))


def _tokens(vocab: int) -> Iterator[tuple[str, Case]]:
    random = np.random.default_rng(2)
    drawn = random.integers(0, vocab, ROWS).astype(np.int32)
    last = random.integers(0, vocab, ROWS).astype(np.int32)
    arguments = np.where(np.arange(ROWS) % 2, drawn, -1 - SLOTS).astype(np.int32)
    yield "pick_tokens", Case("pick_tokens", (arguments, last, np.full(ROWS, -1, np.int32)), writes=(2,))
    yield "put_tokens", Case("put_tokens", (drawn, SLOTS, last), writes=(2,))
    seen, counts = np.zeros((ROWS, vocab), np.bool_), np.zeros((ROWS, vocab), np.int32)
    yield "count_tokens", Case("count_tokens", (drawn, SLOTS, seen, counts), writes=(2, 3))


def _adjustments(logits: np.ndarray) -> Iterator[tuple[str, Case]]:
    vocab = logits.shape[1]
    random = np.random.default_rng(3)
    rows = np.array([6, 1], np.int32)
    chosen = np.stack([random.permutation(vocab)[:40] for _ in SLOTS]).astype(np.int32)
    num_biases = np.array([40, 7], np.int32)
    yield (
        "add_biases",
        Case("add_biases", (logits, rows, SLOTS, num_biases, chosen, normal((4,), ROWS, 40)), writes=(0,)),
    )
    counts = random.integers(0, 4, (ROWS, vocab)).astype(np.int32)
    seen = (counts > 0) | (random.random((ROWS, vocab)) < 0.3)
    penalties = np.array([[0.5, 0.25, 1.3], [0, 0.1, 0.8]], np.float32)
    yield "penalize", Case("penalize", (logits, rows, SLOTS, penalties, seen, counts), writes=(0,))
    broken = logits.copy()
    broken[2, vocab - 1], broken[5, 0], broken[7, vocab // 2] = np.nan, np.inf, -np.inf
    ok = np.isfinite(broken).all(axis=1)
    yield "finite_rows", Case("finite_rows", (broken, ~ok), writes=(1,))
    yield "clear_rows", Case("clear_rows", (broken, ok), writes=(0,), slack=EXACT)


def _draws(logits: np.ndarray) -> Iterator[tuple[str, Case]]:
    """Yield each filter alone and all together; one row of each batch is greedy."""
    vocab = logits.shape[1]
    settings: dict[str, dict[str, float]] = {
        "greedy": {"temperature": 0.0},
        "as it is": {},
        "top_k": {"top_k": 40},
        "top_k of 1": {"top_k": 1},
        "top_p": {"top_p": 0.9},
        "min_p": {"min_p": 0.05},
        "all filters": {"top_k": 100, "top_p": 0.8, "min_p": 0.01, "temperature": 0.7},
        "hot": {"temperature": 50.0, "top_p": 0.5},
    }
    for name, chosen in settings.items():
        yield f"sample, {name}", _draw(logits, chosen)
    tied = np.round(logits)  # few different values, each many times
    yield "sample, ties", _draw(tied, {"top_k": 3, "top_p": 0.9})
    yield "sample, all equal", _draw(np.zeros((ROWS, vocab), np.float32), {"top_p": 0.5})


def _draw(logits: np.ndarray, settings: dict[str, float]) -> Case:
    temperature = np.full(ROWS, settings.get("temperature", 1.0), np.float32)
    temperature[4] = 0
    top_k = np.full(ROWS, settings.get("top_k", 0), np.int32)
    top_p, min_p = (np.full(ROWS, settings.get(*pair), np.float32) for pair in (("top_p", 1.0), ("min_p", 0.0)))
    seeds, positions = np.arange(ROWS, dtype=np.uint64) * np.uint64(2**61 - 1), np.arange(ROWS, dtype=np.int64) + 1000
    arguments = (logits, temperature, top_k, top_p, min_p, seeds, positions, np.full(ROWS, -1, np.int32))
    return Case("sample", arguments, writes=(7,))
