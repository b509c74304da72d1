"""Ops of a layer, at a model's sizes: norms, rotary embedding, storing, activation, products."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from benchmarks.gpu.checks.check import Check
from benchmarks.gpu.checks.comparing import EXACT, Case, check_case, normal, nothing
from benchmarks.gpu.rig import Rig
from service.execution.gpu.runtime import Stream
from service.execution.memory import Kernels
from service.execution.models.architecture import ModelConfig

TOKENS = 5
BLOCKS = 7
PLACES = np.array([16 * 6 + 15, 0, 16 * 3 + 7, 16 * 3 + 8, 16 * 2], np.int64)
POSITIONS = np.array([39, 0, 17, 18, 16], np.int32)


def layer_checks(rig: Rig) -> Iterator[Check]:
    """Every op, in every type."""
    with rig.runtime.bound():
        stream = rig.runtime.stream()
        ops = rig.runtime.ops(stream)
    for model, shape in rig.scale.op_shapes.items():
        for case in _cases(shape.config):
            for dtype in rig.dtypes:
                yield Check(f"{case.op}, {model}, {dtype}", partial(_run, rig, ops, stream, case, dtype))


def _run(rig: Rig, ops: Kernels, stream: Stream, case: Case, dtype: str) -> str:
    check_case(rig, ops, stream, case, dtype)
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
    yield Case("take_rows", (table, rows, nothing(TOKENS, hidden)), writes=(2,), typed=(0, 2), slack=EXACT)
    yield Case("rms_norm", (x, weight, eps, nothing(TOKENS, hidden)), writes=(3,), typed=(0, 1, 3))
    yield Case(  # the norm is that of the residual as it was rounded
        "add_rms_norm", (residual, x, weight, eps, nothing(TOKENS, hidden)), (0, 4), typed=(0, 1, 2, 4), slack=2
    )
    yield Case("head_rms_norm", (qkv, heads, heads + kv_heads, normal((7,), dim), eps), writes=(0,), typed=(0, 3))
    yield Case("rope", (qkv, heads + kv_heads, POSITIONS, cos, sin), writes=(0,), typed=(0,))
    yield Case("store_kv", (_pool(config), 1, qkv, PLACES), writes=(0,), typed=(0, 2), slack=EXACT)
    rotated = {2: np.s_[:, :heads]}  # what becomes of the keys there is not defined
    yield Case("rope_store_kv", (_pool(config), 1, qkv, POSITIONS, cos, sin, PLACES), (0, 2), (0, 2), defined=rotated)
    yield Case("silu_mul", (4 * normal((8,), TOKENS, 2 * inner), nothing(TOKENS, inner)), writes=(1,), typed=(0, 1))
    yield from _products(hidden, inner)


def _products(hidden: int, inner: int) -> Iterator[Case]:
    """Of order 1: weights have variance 1 / columns."""
    for tokens in (1, TOKENS):
        x, weight = normal((9,), tokens, hidden), normal((10,), inner, hidden) / np.float32(np.sqrt(hidden))
        out = nothing(tokens, inner)
        yield Case("linear", (x, weight, None, out), writes=(3,), typed=(0, 1, 3), slack=2)
        yield Case("linear", (x, weight, normal((11,), inner), out), writes=(3,), typed=(0, 1, 2, 3), slack=2)


def _pool(config: ModelConfig) -> np.ndarray:
    """Of two layers, with nothing in it."""
    return nothing(BLOCKS, 2, 2, config.num_kv_heads, 16, config.head_dim)
