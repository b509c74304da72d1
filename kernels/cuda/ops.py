"""Launches the ops of `kernels.reference` for arrays on the device.

The ops from logits to tokens are in `drawing_ops`. Arrays are C-contiguous, with ``shape`` and ``dtype`` as NumPy and
CuPy have them (bfloat16 is ml_dtypes'). Activations, weights and KV of one call have one element type. Heads and rows
fill whole 16-byte vectors and begin at a multiple of 16 bytes; cos and sin are float32. No op allocates or waits.
"""

# mypy: allow-untyped-calls

import math
from typing import Any

from kernels.cuda import attention, copying, norms, pointwise, prefill, rotary
from kernels.cuda.drawing_ops import DrawingOps
from kernels.cuda.elements import BY_NAME, Elements
from kernels.cuda.kernel import BLOCK_TOKENS, Launch
from kernels.cuda.matrices import Multiply

Array = Any  # NumPy's or CuPy's

VECTOR_BYTES = 16
SPLIT_BLOCKS = 4  # a split has at least this many blocks of KV, or merging it costs more than it saves
COPY_PIECES = 64  # blocks of threads that share one run


class Ops(DrawingOps):
    """The ops, on the stream that ``launch`` and ``multiply`` stand for.

    scratch: float32 on the device, for the splits of attention, at least ``heads * (head_dim + 2)`` for a query token;
    with more, more tokens and splits go at once. processors: the device's; attention is split until all have work.
    """

    def __init__(self, launch: Launch, multiply: Multiply, scratch: Any, processors: int) -> None:
        super().__init__(launch)
        self._multiply, self._scratch, self._processors = multiply, scratch, processors

    def take_rows(self, table: Array, rows: Array, out: Array) -> None:
        """See `kernels.reference.take_rows`; any element type."""
        vectors = _vectors(table)
        grid = (len(rows), _pieces(vectors, pointwise.THREADS))
        self._run(pointwise.take_rows(), grid, table, rows, vectors, out)

    def linear(self, x: Array, weight: Array, bias: Array | None, out: Array) -> None:
        """See `kernels.reference.linear`; out has x's type, or is float32 (logits).

        The product is added to the bias, which has out's type: so the sum is rounded once.
        """
        if bias is not None:
            if bias.dtype != out.dtype or len(bias) != out.shape[1]:
                raise ValueError(f"bias {bias.shape} {bias.dtype} for out {out.shape} {out.dtype}")
            vectors = _vectors(out)
            grid = (len(out), _pieces(vectors, pointwise.THREADS))
            self._run(pointwise.repeat_row(), grid, bias, vectors, out)
        if len(x):
            self._multiply(x, weight, out, accumulate=bias is not None)

    def rms_norm(self, x: Array, weight: Array, eps: float, out: Array) -> None:
        """See `kernels.reference.rms_norm`."""
        self._run(norms.rms_norm(_elements(x, weight, out)), (len(x),), x, weight, eps, _vectors(x), out)

    def add_rms_norm(self, residual: Array, x: Array, weight: Array, eps: float, out: Array) -> None:
        """See `kernels.reference.add_rms_norm`; the norm is that of the rounded residual."""
        kernel = norms.add_rms_norm(_elements(residual, x, weight, out))
        self._run(kernel, (len(x),), residual, x, weight, eps, _vectors(x), out)

    def head_rms_norm(self, qkv: Array, first: int, last: int, weight: Array, eps: float) -> None:
        """See `kernels.reference.head_rms_norm`."""
        kernel = norms.head_rms_norm(_elements(qkv, weight), _head_dim(qkv))
        grid = (len(qkv), _pieces(last - first, kernel.threads[1]))
        self._run(kernel, grid, qkv, qkv.shape[1], first, last, weight, eps)

    def rope(self, qkv: Array, heads: int, positions: Array, cos: Array, sin: Array) -> None:
        """See `kernels.reference.rope`."""
        kernel = rotary.rope(_elements(qkv), _head_dim(qkv, halves=2))
        grid = (len(qkv), _pieces(heads, kernel.threads[1]))
        self._run(kernel, grid, qkv, qkv.shape[1], heads, positions, cos, sin)

    def store_kv(self, kv: Array, layer: int, qkv: Array, slot_mapping: Array) -> None:
        """See `kernels.reference.store_kv`."""
        kernel = rotary.store_kv(_elements(qkv, kv), _head_dim(qkv, halves=2))
        _, layers, _, kv_heads, _, _ = _pool(kv)
        grid = (len(qkv), _pieces(2 * kv_heads, kernel.threads[1]))
        self._run(kernel, grid, kv, layers, kv_heads, layer, qkv, qkv.shape[1], slot_mapping)

    def rope_store_kv(
        self, kv: Array, layer: int, qkv: Array, positions: Array, cos: Array, sin: Array, slot_mapping: Array
    ) -> None:
        """See `kernels.reference.rope_store_kv`; in one pass, and only the queries in qkv change."""
        kernel = rotary.rope_store_kv(_elements(qkv, kv), _head_dim(qkv, halves=2))
        _, layers, _, kv_heads, _, _ = _pool(kv)
        grid = (len(qkv), _pieces(qkv.shape[1], kernel.threads[1]))
        self._run(kernel, grid, kv, layers, kv_heads, layer, qkv, qkv.shape[1], positions, cos, sin, slot_mapping)

    def silu_mul(self, gate_up: Array, out: Array) -> None:
        """See `kernels.reference.silu_mul`."""
        vectors = _vectors(out)
        grid = (len(out), _pieces(vectors, pointwise.THREADS))
        self._run(pointwise.silu_mul(_elements(gate_up, out)), grid, gate_up, vectors, out)

    def paged_attention(
        self,
        qkv: Array,
        kv: Array,
        layer: int,
        block_tables: Array,
        slots: Array,
        query_start_loc: Array,
        seq_lens: Array,
        scale: float,
        out: Array,
    ) -> None:
        """See `kernels.reference.paged_attention`; a block has 16 tokens.

        Shapes alone decide what is launched. A batch of as many query tokens as rows is one of decodes, whose launches
        can be captured. Raises ValueError if the scratch does not hold one token.
        """
        _, layers, _, kv_heads, _, _ = _pool(kv)
        elements, (tokens, heads, head_dim), rows = _elements(qkv, kv, out), out.shape, len(slots)
        _head_dim(out)
        shape, log2_scale = (elements, head_dim, heads // kv_heads), scale * math.log2(math.e)
        batch = (
            qkv, qkv.shape[1], kv, layers, kv_heads, layer, block_tables, block_tables.shape[1], slots, query_start_loc,
            seq_lens, rows,
        )  # fmt: skip
        if not prefill.serves(*shape):
            self._attend_split("tokens", tokens, shape, batch, log2_scale, out)
            return
        self._attend_split("rows", rows, shape, batch, log2_scale, out)
        if tokens > rows:
            grid = (kv_heads, prefill.tiles(tokens, rows, heads // kv_heads))
            self._run(prefill.chunks(*shape), grid, *batch, log2_scale, out)

    def _attend_split(
        self, units: str, count: int, shape: tuple[Elements, int, int], batch: tuple[Any, ...], scale: float, out: Array
    ) -> None:
        """Attend for ``count`` units (rows with one query token, or query tokens), each by blocks of its own."""
        partial, merge = attention.partial(*shape, units), attention.merge(*shape[:2], units)
        heads, kv_heads, max_blocks, query_start_loc, rows = out.shape[1], batch[4], batch[7], batch[9], batch[11]
        unit_floats = heads * (shape[1] + 2)
        if self._scratch.size < unit_floats:
            raise ValueError(f"scratch of {self._scratch.size} floats: one token of {heads} heads needs {unit_floats}")
        at_once = min(count, self._scratch.size // unit_floats)
        shift = self._split_shift(at_once * kv_heads, max_blocks, at_once * unit_floats)
        for first in range(0, count, at_once):
            some = min(at_once, count - first)
            self._run(partial, (some, kv_heads, 1 << shift), *batch, first, shift, scale, self._scratch)
            grid = (some, _pieces(heads, merge.threads[1]))
            self._run(merge, grid, self._scratch, shift, heads, query_start_loc, rows, first, out)

    def _split_shift(self, units: int, max_blocks: int, floats: int) -> int:
        """Return log2 of the splits of a sequence; shapes alone decide it, so that a captured graph can be replayed."""
        shift = 0
        while (
            units << shift < 2 * self._processors
            and max_blocks >> (shift + 1) >= SPLIT_BLOCKS
            and floats << (shift + 1) <= self._scratch.size
        ):
            shift += 1
        return shift

    def move_runs(self, pool: Array, moves: Array) -> None:
        """Move runs inside a pool [units, ...], each as memmove does; moves [n, 3] int64: source, destination, length.

        The moves of one call must be independent (`moves.waves`).
        """
        self._run(copying.move_runs(), (COPY_PIECES, len(moves)), pool, moves, _vectors(pool))

    def copy_runs(self, origin: Array, target: Array, runs: Array) -> None:
        """Copy runs of units from one memory to another: gather into a staging run, or scatter out of one.

        origin, target [units, ...] with units of one size; runs as in `move_runs`; no two may write the same unit.
        """
        if origin.nbytes // len(origin) != target.nbytes // len(target):
            raise ValueError(f"units of {origin.nbytes // len(origin)} and {target.nbytes // len(target)} bytes")
        self._run(copying.copy_runs(), (COPY_PIECES, len(runs)), origin, target, runs, _vectors(origin))


def _elements(*arrays: Array) -> Elements:
    """Return the element type of all the arrays; raise ValueError if they differ or there is no kernel for it."""
    names = {str(array.dtype) for array in arrays}
    if len(names) > 1 or not names <= BY_NAME.keys():
        raise ValueError(f"elements are {sorted(names)}: a call takes one type of {sorted(BY_NAME)}")
    return BY_NAME[names.pop()]


def _vectors(array: Array) -> int:
    """Return the number of 16-byte vectors in a row of an array [rows, ...]."""
    row_bytes: int = array.nbytes // len(array) if len(array) else 0
    if row_bytes % VECTOR_BYTES:
        raise ValueError(f"rows have {row_bytes} bytes, which is no multiple of {VECTOR_BYTES}")
    return row_bytes // VECTOR_BYTES


def _head_dim(array: Array, halves: int = 1) -> int:
    """Return the last dimension, which must be a multiple of (twice, for halves=2) the vector, and at most 128."""
    head_dim: int = array.shape[-1]
    least = halves * VECTOR_BYTES // array.dtype.itemsize
    if head_dim % least or head_dim > attention.THREADS:
        raise ValueError(f"heads of {head_dim} elements are no multiple of {least} up to {attention.THREADS}")
    return head_dim


def _pool(kv: Array) -> tuple[int, ...]:
    """Return the shape of a KV pool."""
    if kv.shape[4] != BLOCK_TOKENS:
        raise ValueError(f"blocks have {kv.shape[4]} tokens, but must have {BLOCK_TOKENS}")
    shape: tuple[int, ...] = kv.shape
    return shape


def _pieces(count: int, size: int) -> int:
    return -(-count // size)
