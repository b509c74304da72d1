"""Carries out a forward pass on a CPU as one program of compiled code, on packed weights.

Activations stay float32, except as products and attention take them: `kernels.cpu.step.activations` and `rotary` say
how. What a step writes besides KV is allocated once, for the largest batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from math import sqrt

import numba
import numpy as np
from numpy.typing import NDArray

from kernels.cpu.step import activation, attention, embedding, norm, rotary, step_input, team
from kernels.cpu.step.activations import ROWS, bytes_panel, floats_panel
from kernels.cpu.step.formats import FORMATS, KERNELS
from kernels.cpu.step.formats.format import GROUP, QUANTS, Quantised
from kernels.cpu.step.many_rows import GROUPS
from kernels.cpu.step.product_tiles import LinearOp
from kernels.cpu.step.program import Operation, Program, bits, zeros
from kernels.cpu.step.rows import BYTES, BYTES_PANEL, FLOATS, FLOATS_PANEL
from kernels.cpu.step.softmax import SPLIT
from kernels.cpu.step.tiles import make_tiles
from kernels.cpu.step.unit_kernel import UnitKernel
from service.execution.batch import Batch, SlotMemory
from service.execution.forward_pass import (
    Attend,
    Embed,
    Norm,
    Op,
    Project,
    RotateAndStore,
    SiluMul,
    Value,
    forward_pass,
)
from service.execution.kv import KVFormat
from service.execution.memory import Array
from service.execution.model import rotary_tables
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights, PackedMatrix, PackedRows

UNITS_PER_THREAD = 4  # of an operation: enough to even out what threads take, few enough to cost nothing
GROUPS_PER_UNIT = 32  # at most, of a product


class CompiledModel:
    """Packed weights, a program and its memory; `forward` runs a batch of at most ``max_tokens`` with ``max_draws``.

    ``kv_format`` is that of the pool. Raises MemoryError.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        kv_format: KVFormat,
        *,
        max_positions: int,
        max_tokens: int,
        max_draws: int,
    ) -> None:
        self._config, self._kv_format = config, kv_format
        self._ops = forward_pass(weights)  # the program has their weights' addresses
        self._threads = numba.get_num_threads()
        self._memory = _Memory(config, kv_format, self._ops, max_positions, max_tokens, max_draws)
        self._program = self._lower(self._ops)
        self._tile_tokens = max(1, attention.MAX_QUERIES // _heads_per_unit(config))
        self._units_per_tile = config.num_heads // _heads_per_unit(config)

    @property
    def kernels(self) -> tuple[UnitKernel, ...]:
        """The kernels of the program."""
        return self._program.kernels

    def only(self, is_wanted: Callable[[Op], bool]) -> "CompiledModel":
        """Return a model on the same memory that does some of the operations, and so shows what these cost."""
        part = copy(self)
        part._program = self._lower([op for op in self._ops if is_wanted(op)])
        return part

    def _lower(self, ops: Sequence[Op]) -> Program:
        config = self._config
        operations = _Lowering(config, self._kv_format, self._memory, self._threads).operations(ops)
        widest = max(config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim)
        return Program(list(operations), self._threads, 4 * widest)

    def forward(self, batch: Batch, slots: SlotMemory, kv: Array) -> Array:
        """Return logits [draws, vocab], valid until the next call. Writes K and V to the pool."""
        memory, tokens, draws = self._memory, len(batch.input_ids), len(batch.logits_indices)
        step = np.zeros(step_input.NUM_INPUTS, np.int64)
        step[step_input.TOKENS], step[step_input.DRAWS] = tokens, draws
        step[step_input.ROWS_PER_UNIT] = min(ROWS, -(-tokens // (UNITS_PER_THREAD * self._threads)))
        tables = slots.block_tables.ctypes.data + slots.block_tables.strides[0] * batch.slots.astype(np.int64)
        spreads = len(tables) * self._units_per_tile < UNITS_PER_THREAD * self._threads
        step[step_input.TILES] = make_tiles(
            batch.query_start_loc,
            batch.seq_lens,
            tables,
            self._tile_tokens,
            spreads,
            memory.max_partials,
            memory.tiles,
            memory.partials,
        )
        for place, array in (
            (step_input.INPUT_IDS, batch.input_ids),
            (step_input.LAST, slots.last),
            (step_input.POSITIONS, batch.positions),
            (step_input.SLOT_MAPPING, batch.slot_mapping),
            (step_input.LOGITS_INDICES, batch.logits_indices),
            (step_input.TILE_LIST, memory.tiles),
            (step_input.PARTIALS, memory.partials),
            (step_input.POOL, kv),
        ):
            step[place] = array.ctypes.data
        self._program.run(step)
        return memory.logits[:draws]


class _Memory:
    """All that a step writes besides KV, and the rotary tables."""

    def __init__(
        self,
        config: ModelConfig,
        kv_format: KVFormat,
        ops: Sequence[Op],
        max_positions: int,
        max_tokens: int,
        max_draws: int,
    ) -> None:
        heads, dim = config.num_heads, kv_format.head_dim
        self.max_partials = max_tokens + 2 * -(-max_positions // SPLIT)
        self.residual = _floats(max_tokens, config.hidden_size)
        self.qkv = _floats(max_tokens, (heads + 2 * config.num_kv_heads) * config.head_dim)
        self.queries = zeros((max_tokens, heads * dim * kv_format.dtype.itemsize))
        self.results = _floats(self.max_partials * heads, dim + 16)
        self.gate_up = _floats(max_tokens, 2 * config.intermediate_size)
        self.logits = _floats(max_draws, config.vocab_size)
        self.tiles = np.zeros((self.max_partials, attention.TILE_FIELDS), np.int64)
        self.partials = np.zeros((max_tokens, 2), np.int64)
        self.cos, self.sin = rotary_tables(config, max_positions)
        self.biases: list[NDArray[np.float32]] = []  # padded ones, of which the program has the addresses
        rows = {value: max_draws if value is Value.LAST_HIDDEN else max_tokens for value in Value}
        self.panels = {value: _Panels(matrices, rows[value]) for value, matrices in _sources(ops).items()}


class _Panels:
    """Activations in the forms that the products of some matrices take."""

    def __init__(self, matrices: Sequence[PackedMatrix], rows: int) -> None:
        columns, panels = matrices[0].columns, -(-rows // ROWS)
        forms = {isinstance(FORMATS[part.format], Quantised) for matrix in matrices for part in matrix.parts}
        self.bytes_panel, self.floats_panel = bytes_panel(columns), floats_panel(columns)
        self.bytes = zeros((panels, self.bytes_panel)) if True in forms else None
        self.floats = zeros((panels, self.floats_panel)) if False in forms else None

    @property
    def sink(self) -> dict[int, int]:
        """The operands of an operation that leaves them."""
        return {
            BYTES: 0 if self.bytes is None else self.bytes.ctypes.data,
            BYTES_PANEL: self.bytes_panel,
            FLOATS: 0 if self.floats is None else self.floats.ctypes.data,
            FLOATS_PANEL: self.floats_panel,
        }

    def source(self, part: PackedRows) -> dict[int, int]:
        """The operands of a product that reads them."""
        memory, size = (self.bytes, self.bytes_panel) if _is_quantised(part) else (self.floats, self.floats_panel)
        assert memory is not None
        return {LinearOp.PANELS: memory.ctypes.data, LinearOp.PANEL_BYTES: size}


class _Lowering:
    """Makes operations of a program of the operations of a forward pass."""

    def __init__(self, config: ModelConfig, kv_format: KVFormat, memory: _Memory, threads: int) -> None:
        self._config, self._kv_format, self._memory, self._threads = config, kv_format, memory, threads

    def operations(self, ops: Sequence[Op]) -> Iterator[Operation]:
        """Yield the operations of the program, in order."""
        for op in ops:
            match op:
                case Embed(table):
                    yield self._embed(table.parts[0], table.columns)
                case Norm():
                    yield self._norm(op)
                case Project():
                    yield from self._project(op)
                case RotateAndStore():
                    yield self._rotate_and_store(op)
                case Attend(number):
                    yield from self._attend(number)
                case SiluMul():
                    yield self._silu_mul()

    def _embed(self, part: PackedRows, columns: int) -> Operation:
        residual = self._memory.residual
        operands = {
            embedding.TABLE: part.groups.ctypes.data,
            embedding.GROUP_BYTES: part.groups.strides[0],
            embedding.BLOCKS: _blocks(part, columns),
            embedding.OUT: residual.ctypes.data,
            embedding.OUT_STRIDE: residual.strides[0],
        }
        return Operation(KERNELS[part.format].embed, step_input.TOKENS, 1, operands)

    def _norm(self, op: Norm) -> Operation:
        of_draws = op.target is Value.LAST_HIDDEN
        operands = {
            norm.SOURCE: self._memory.residual.ctypes.data,
            norm.STRIDE: self._memory.residual.strides[0],
            norm.WEIGHT: op.weight.ctypes.data,
            norm.COLUMNS: self._config.hidden_size,
            norm.EPS: bits(self._config.rms_norm_eps),
        }
        kernel, rows = (norm.norm_of_draws, step_input.DRAWS) if of_draws else (norm.norm, step_input.TOKENS)
        return Operation(kernel, rows, 1, operands | self._memory.panels[op.target].sink)

    def _project(self, op: Project) -> Iterator[Operation]:
        matrix, bias = op.layer.weight, op.layer.bias
        out = {
            Value.QKV: self._memory.qkv,
            Value.GATE_UP: self._memory.gate_up,
            Value.RESIDUAL: self._memory.residual,
            Value.LOGITS: self._memory.logits,
        }[op.target]
        for part in matrix.parts:
            groups = len(part.groups)
            units = min(-(-groups // GROUPS), max(UNITS_PER_THREAD * self._threads, groups // GROUPS_PER_UNIT))
            operands = {
                LinearOp.WEIGHTS: part.groups.ctypes.data,
                LinearOp.GROUP_BYTES: part.groups.strides[0],
                LinearOp.BLOCKS: _blocks(part, matrix.columns),
                LinearOp.OUTPUTS: part.rows,
                LinearOp.OUT: out.ctypes.data + 4 * part.first,
                LinearOp.OUT_STRIDE: out.strides[0],
                LinearOp.BIAS: 0 if bias is None else self._bias(bias[part.first : part.first + part.rows]),
                LinearOp.ADDS: int(op.target is Value.RESIDUAL),
                LinearOp.ROWS: step_input.DRAWS if op.target is Value.LOGITS else step_input.TOKENS,
                LinearOp.UNITS: units,
            }
            operands |= self._memory.panels[op.source].source(part)
            yield Operation(KERNELS[part.format].linear, team.FIXED, units, operands)

    def _bias(self, bias: NDArray[np.float32]) -> int:
        """Return the address of a copy that is padded to whole groups."""
        padded = np.zeros(-(-len(bias) // GROUP) * GROUP, np.float32)
        padded[: len(bias)] = bias
        self._memory.biases.append(padded)
        return int(padded.ctypes.data)

    def _rotate_and_store(self, op: RotateAndStore) -> Operation:
        config, memory = self._config, self._memory
        operands = self._kv(op.number) | {
            rotary.QKV: memory.qkv.ctypes.data,
            rotary.STRIDE: memory.qkv.strides[0],
            rotary.HEADS: config.num_heads,
            rotary.KV_HEADS: config.num_kv_heads,
            rotary.HEAD_DIM: config.head_dim,
            rotary.PADDED_DIM: self._kv_format.head_dim,
            rotary.COS: memory.cos.ctypes.data,
            rotary.SIN: memory.sin.ctypes.data,
            rotary.QUERIES: memory.queries.ctypes.data,
            rotary.ITEM: self._kv_format.dtype.itemsize,
            rotary.Q_NORM: 0 if op.q_norm is None else op.q_norm.ctypes.data,
            rotary.K_NORM: 0 if op.k_norm is None else op.k_norm.ctypes.data,
            rotary.EPS: bits(config.rms_norm_eps),
            rotary.SCALE: bits(1 / sqrt(config.head_dim)),
        }
        return Operation(rotary.rotate_and_store, step_input.TOKENS, 1, operands)

    def _kv(self, number: int) -> dict[int, int]:
        """Return the operands of rotary embedding that say where a layer's KV is in a block."""
        shape, item = self._kv_format.shape(1), self._kv_format.dtype.itemsize
        side = int(np.prod(shape[3:])) * item
        return {
            rotary.BLOCK_BYTES: int(np.prod(shape)) * item,
            rotary.KEYS: 2 * number * side,
            rotary.VALUES: (2 * number + 1) * side,
        }

    def _attend(self, number: int) -> Iterator[Operation]:
        config, memory = self._config, self._memory
        kv, take = self._kv(number), _heads_per_unit(config)
        operands = {
            attention.QUERIES: memory.queries.ctypes.data,
            attention.HEADS: config.num_heads,
            attention.KV_HEADS: config.num_kv_heads,
            attention.PADDED_DIM: self._kv_format.head_dim,
            attention.BLOCK_BYTES: kv[rotary.BLOCK_BYTES],
            attention.KEYS: kv[rotary.KEYS],
            attention.VALUES: kv[rotary.VALUES],
            attention.RESULTS: memory.results.ctypes.data,
            attention.HEAD_DIM: config.head_dim,
            attention.TAKE: take,
        }
        is_short = self._kv_format.dtype.itemsize == 2
        kernel = attention.attend_bfloat16 if is_short else attention.attend_float32
        yield Operation(kernel, -step_input.TILES, config.num_heads // take, operands)
        yield Operation(attention.join, step_input.TOKENS, 1, operands | memory.panels[Value.ATTENDED].sink)

    def _silu_mul(self) -> Operation:
        columns = self._config.intermediate_size
        slices = max(1, min(UNITS_PER_THREAD, columns // (4 * QUANTS)))
        operands = {
            activation.SOURCE: self._memory.gate_up.ctypes.data,
            activation.STRIDE: self._memory.gate_up.strides[0],
            activation.COLUMNS: columns,
            activation.SLICES: slices,
        }
        sink = self._memory.panels[Value.ACTIVATED].sink
        return Operation(activation.silu_mul, step_input.TOKENS, slices, operands | sink)


def _sources(ops: Sequence[Op]) -> Mapping[Value, list[PackedMatrix]]:
    """Return the matrices that are multiplied with each value."""
    sources: dict[Value, list[PackedMatrix]] = {}
    for op in ops:
        if isinstance(op, Project):
            sources.setdefault(op.source, []).append(op.layer.weight)
    return sources


def _is_quantised(part: PackedRows) -> bool:
    return isinstance(FORMATS[part.format], Quantised)


def _blocks(part: PackedRows, columns: int) -> int:
    return columns // QUANTS if _is_quantised(part) else columns


def _heads_per_unit(config: ModelConfig) -> int:
    """Return how many query heads of a KV head a unit of attention takes: all, if scratch memory has rows for them."""
    group = config.num_heads // config.num_kv_heads
    return max(take for take in range(1, attention.GROUPED + 1) if group % take == 0)


def _floats(rows: int, columns: int) -> NDArray[np.float32]:
    return zeros((rows, columns * 4)).view(np.float32)
