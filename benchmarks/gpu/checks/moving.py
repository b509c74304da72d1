"""Checks of compaction's ops, which only GPUs have: moving runs inside a pool, gathering them into another memory."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.checks.check import Check, NotHereError, require
from benchmarks.gpu.under_test import GPUUnderTest
from service.execution.gpu.runtime import Array, Stream

UNITS, UNIT_FLOATS = 40, 4096
MOVES = ((20, 0, 3), (26, 10, 1), (31, 29, 6), (13, 15, 4))  # source, destination, length; two overlap
GATHERED = ((7, 0, 2), (30, 2, 1), (12, 3, 5))


def moving_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield checks that compare the whole memory byte by byte."""
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        ops = gpu.runtime.ops(stream)
    yield Check("move_runs", partial(_run, gpu, ops, stream, "move_runs", MOVES))
    yield Check("copy_runs", partial(_run, gpu, ops, stream, "copy_runs", GATHERED))


def _run(gpu: GPUUnderTest, ops: Any, stream: Stream, name: str, runs: tuple[tuple[int, int, int], ...]) -> str:
    op: Callable[..., None] | None = getattr(ops, name, None)
    if op is None:
        raise NotHereError("the CPU's kernels have no such op")
    pool = np.random.default_rng(0).standard_normal((UNITS, UNIT_FLOATS), np.float32)
    target = pool if name == "move_runs" else np.full_like(pool, np.nan)
    expected = target.copy()
    for source, destination, length in runs:
        expected[destination : destination + length] = pool[source : source + length]
    got = _moved(gpu, op, stream, [pool] if target is pool else [pool, target], np.array(runs, np.int64))
    require(got.tobytes() == expected.tobytes(), "the bytes differ from the expected ones")
    return ""


def _moved(
    gpu: GPUUnderTest, op: Callable[..., None], stream: Stream, memories: list[np.ndarray], runs: np.ndarray
) -> Any:
    arrays: list[Array] = [gpu.put(values) for values in (*memories, runs)]
    with gpu.runtime.bound():
        op(*arrays)
        stream.record().wait()
    return gpu.read(arrays[len(memories) - 1])
