"""Checks of a layer's ops at a model's sizes: norms, rotary embedding, storing, activation, products."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.gpu.checks.check import Check
from benchmarks.gpu.checks.comparing import EXACT, Case, check_case, normal, unwritten
from benchmarks.gpu.under_test import GPUUnderTest
from service.execution.gpu.runtime import Stream
from service.execution.memory import Kernels
from service.execution.models.architecture import ModelConfig

TOKENS = 5
BLOCKS = 7
SLOT_MAPPING = np.array([16 * 6 + 15, 0, 16 * 3 + 7, 16 * 3 + 8, 16 * 2], np.int64)
POSITIONS = np.array([39, 0, 17, 18, 16], np.int32)


def layer_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield a check for every op in every type."""
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        ops = gpu.runtime.ops(stream)
    for model, shape in gpu.scale.op_shapes.items():
        for case in _cases(shape.config):
            for dtype in gpu.dtypes:
                yield Check(f"{case.op}, {model}, {dtype}", partial(_run, gpu, ops, stream, case, dtype))


def _run(gpu: GPUUnderTest, ops: Kernels, stream: Stream, case: Case, dtype: str) -> str:
    check_case(gpu, ops, stream, case, dtype)
    return ""


def _cases(config: ModelConfig) -> Iterator[Case]:
    hidden, inner, dim = config.hidden_size, config.intermediate_size, config.head_dim
    heads, kv_heads = config.num_heads, config.num_kv_heads
    x, residual, weight = normal((1,), TOKENS, hidden), normal((2,), TOKENS, hidden), normal((3,), hidden)
    qkv = normal((4,), TOKENS, heads + 2 * kv_heads, dim)
    angles = normal((5,), 64, dim // 2)
    cos, sin = np.cos(angles), np.sin(angles)
    table = normal((6,), 33, hidden)
    rows = np.array([32, 0, 7, 7, 1], np.int32)
    eps = 1e-5
    yield Case("take_rows", (table, rows, unwritten(TOKENS, hidden)), writes=(2,), typed=(0, 2), slack=EXACT)
    yield Case("rms_norm", (x, weight, eps, unwritten(TOKENS, hidden)), writes=(3,), typed=(0, 1, 3))
    yield Case(  # the norm is taken of the rounded residual
        "add_rms_norm", (residual, x, weight, eps, unwritten(TOKENS, hidden)), (0, 4), typed=(0, 1, 2, 4), slack=2
    )
    yield Case("head_rms_norm", (qkv, heads, heads + kv_heads, normal((7,), dim), eps), writes=(0,), typed=(0, 3))
    yield Case("rope", (qkv, heads + kv_heads, POSITIONS, cos, sin), writes=(0,), typed=(0,))
    yield Case("store_kv", (_pool(config), 1, qkv, SLOT_MAPPING), writes=(0,), typed=(0, 2), slack=EXACT)
    rotated = {2: np.s_[:, :heads]}  # the op may leave anything in the keys there
    yield Case(
        "rope_store_kv", (_pool(config), 1, qkv, POSITIONS, cos, sin, SLOT_MAPPING), (0, 2), (0, 2), defined=rotated
    )
    yield Case("silu_mul", (4 * normal((8,), TOKENS, 2 * inner), unwritten(TOKENS, inner)), writes=(1,), typed=(0, 1))
    yield from _products(hidden, inner)


def _products(hidden: int, inner: int) -> Iterator[Case]:
    """Yield products of order 1: weights have variance 1 / columns."""
    for tokens in (1, TOKENS):
        x, weight = normal((9,), tokens, hidden), normal((10,), inner, hidden) / np.float32(np.sqrt(hidden))
        out = unwritten(tokens, inner)
        yield Case("linear", (x, weight, None, out), writes=(3,), typed=(0, 1, 3), slack=2)
        yield Case("linear", (x, weight, normal((11,), inner), out), writes=(3,), typed=(0, 1, 2, 3), slack=2)


def _pool(config: ModelConfig) -> np.ndarray:
    """Return a pool of two layers, filled with NaN."""
    return unwritten(BLOCKS, 2, 2, config.num_kv_heads, 16, config.head_dim)
