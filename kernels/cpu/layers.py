"""Norms, rotary embedding, activation and storing of KV: the ops that touch each value once.

Small batches run on the calling thread, since waking the others would take longer; threads share the tokens of larger
ones. ``error_model="numpy"`` lets a division by zero be infinite: a check would keep its loop from becoming
vector code.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numba
import numpy as np
from numba import njit, prange

from kernels.cpu.scalars import exp32
from kernels.cpu.tiles import make_dot_tile
from kernels.reference import Array, Ints, Longs

ALONE_TOKENS = 8  # one thread computes batches of up to this many tokens

dot_single = make_dot_tile(1, 1)


def rms_norm(x: Array, weight: Array, eps: float, out: Array) -> None:
    """See `kernels.reference.rms_norm`."""
    _rms_norm(x, weight, eps, out)


def add_rms_norm(residual: Array, x: Array, weight: Array, eps: float, out: Array) -> None:
    """See `kernels.reference.add_rms_norm`."""
    _add_rms_norm(residual, x, weight, eps, out, _threads(len(out)))


def head_rms_norm(qkv: Array, first: int, last: int, weight: Array, eps: float) -> None:
    """See `kernels.reference.head_rms_norm`."""
    _head_rms_norm(qkv, first, last, weight, eps, _threads(len(qkv)))


def rope(qkv: Array, heads: int, positions: Ints, cos: Array, sin: Array) -> None:
    """See `kernels.reference.rope`."""
    _rope(qkv, heads, positions, cos, sin, _threads(len(qkv)))


def silu_mul(gate_up: Array, out: Array) -> None:
    """See `kernels.reference.silu_mul`."""
    _silu_mul(gate_up, out, _threads(len(out)))


def store_kv(kv: Array, layer: int, qkv: Array, slot_mapping: Longs) -> None:
    """See `kernels.reference.store_kv`."""
    _store_kv(kv, layer, qkv, slot_mapping)


def rope_store_kv(
    kv: Array, layer: int, qkv: Array, positions: Ints, cos: Array, sin: Array, slot_mapping: Longs
) -> None:
    """See `kernels.reference.rope_store_kv`."""
    rope(qkv, qkv.shape[1] - kv.shape[3], positions, cos, sin)
    store_kv(kv, layer, qkv, slot_mapping)


def _threads(tokens: int) -> int:
    return 1 if tokens <= ALONE_TOKENS else numba.get_num_threads()


@njit(nogil=True, cache=True)
def _rms_norm(x, weight, eps, out):
    for token in range(len(x)):
        _norm_row(x[token], weight, eps, out[token])


@njit(nogil=True, cache=True, error_model="numpy")
def _norm_row(x, weight, eps, out):
    """Normalise a row; x and out may be the same array."""
    square = np.empty(1, np.float32)
    dot_single(x, 0, 0, x, 0, 0, x.size, square, 0, 0)
    scale = np.float32(1.0 / math.sqrt(square[0] / x.size + eps))
    for i in range(x.size):
        out[i] = x[i] * scale * weight[i]


@njit(nogil=True, parallel=True, cache=True)
def _add_rms_norm(residual, x, weight, eps, out, threads):
    tokens = len(x)
    if threads == 1:
        _add_norm_rows(residual, x, weight, eps, out, 0, tokens)
    else:
        for thread in prange(threads):
            begin, end = tokens * thread // threads, tokens * (thread + 1) // threads
            _add_norm_rows(residual, x, weight, eps, out, begin, end)


@njit(nogil=True, cache=True)
def _add_norm_rows(residual, x, weight, eps, out, begin, end):
    for token in range(begin, end):
        for i in range(x.shape[1]):
            residual[token, i] += x[token, i]
        _norm_row(residual[token], weight, eps, out[token])


@njit(nogil=True, parallel=True, cache=True)
def _head_rms_norm(qkv, first, last, weight, eps, threads):
    tokens = len(qkv)
    if threads == 1:
        _norm_heads(qkv, first, last, weight, eps, 0, tokens)
    else:
        for thread in prange(threads):
            begin, end = tokens * thread // threads, tokens * (thread + 1) // threads
            _norm_heads(qkv, first, last, weight, eps, begin, end)


@njit(nogil=True, cache=True)
def _norm_heads(qkv, first, last, weight, eps, begin, end):
    for token in range(begin, end):
        for head in range(first, last):
            _norm_row(qkv[token, head], weight, eps, qkv[token, head])


@njit(nogil=True, parallel=True, cache=True)
def _rope(qkv, heads, positions, cos, sin, threads):
    tokens = len(qkv)
    if threads == 1:
        _rotate(qkv, heads, positions, cos, sin, 0, tokens)
    else:
        for thread in prange(threads):
            begin, end = tokens * thread // threads, tokens * (thread + 1) // threads
            _rotate(qkv, heads, positions, cos, sin, begin, end)


@njit(nogil=True, cache=True)
def _rotate(qkv, heads, positions, cos, sin, begin, end):
    half = qkv.shape[2] // 2
    for token in range(begin, end):
        c, s = cos[positions[token]], sin[positions[token]]
        for head in range(heads):
            x = qkv[token, head]
            for i in range(half):
                a, b = x[i], x[half + i]
                x[i] = a * c[i] - b * s[i]
                x[half + i] = b * c[i] + a * s[i]


@njit(nogil=True, parallel=True, cache=True)
def _silu_mul(gate_up, out, threads):
    tokens = len(out)
    if threads == 1:
        _gate(gate_up, out, 0, tokens)
    else:
        for thread in prange(threads):
            _gate(gate_up, out, tokens * thread // threads, tokens * (thread + 1) // threads)


@njit(nogil=True, cache=True, error_model="numpy")
def _gate(gate_up, out, begin, end):
    width = out.shape[1]
    for token in range(begin, end):
        source, target = gate_up[token], out[token]
        for i in range(width):
            target[i] = source[i] / (np.float32(1.0) + exp32(-source[i])) * source[width + i]


@njit(nogil=True, cache=True)
def _store_kv(kv, layer, qkv, slot_mapping):
    kv_heads, block_tokens = kv.shape[3], kv.shape[4]
    first_k = qkv.shape[1] - 2 * kv_heads
    for token in range(len(slot_mapping)):
        block, offset = divmod(slot_mapping[token], block_tokens)
        for head in range(kv_heads):
            for d in range(kv.shape[5]):
                kv[block, layer, 0, head, offset, d] = qkv[token, first_k + head, d]
                kv[block, layer, 1, head, offset, d] = qkv[token, first_k + kv_heads + head, d]
