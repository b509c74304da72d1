"""Calls unit kernels as a team does: with an operation, a step, the number of a unit, and scratch memory."""

import ctypes
from collections.abc import Mapping

import numpy as np

from kernels import reference
from kernels.cpu.step import activations as act
from kernels.cpu.step.formats import FORMATS, KERNELS
from kernels.cpu.step.formats.format import Quantised
from kernels.cpu.step.product_tiles import LinearOp
from kernels.cpu.step.step_input import NUM_INPUTS
from kernels.cpu.step.unit_kernel import UnitKernel

Values = Mapping[int, "int | np.ndarray"]

OPERANDS = 24
ROWS = NUM_INPUTS - 1  # where these tests' steps say how many rows a product has


def call(kernel: UnitKernel, op: Values, step: Values, units: int = 1) -> None:
    """Run all units of an operation, the last one first; arrays stand for their addresses."""
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(kernel.address)
    operands, inputs, scratch = _numbers(op, OPERANDS), _numbers(step, NUM_INPUTS), np.empty(1 << 16, np.uint8)
    for unit in reversed(range(units)):
        scratch[:] = 0xFF  # what another unit leaves: NaN
        function(operands.ctypes.data, inputs.ctypes.data, unit, scratch.ctypes.data)


def _numbers(values: Values, count: int) -> np.ndarray:
    numbers = np.zeros(count, np.int64)
    for place, value in values.items():
        numbers[place] = value.ctypes.data if isinstance(value, np.ndarray) else value
    return numbers


def float_bits(value: float) -> int:
    """Return a float32 as an integer of its bits, as operations have it."""
    return int(np.float32(value).view(np.int32))


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    """Compare float32 to the bit, but NaN with any NaN."""
    assert a.dtype == b.dtype == np.float32
    both = np.isnan(a) & np.isnan(b)
    np.testing.assert_array_equal(np.where(both, 0, a.view(np.uint32)), np.where(both, 0, b.view(np.uint32)))


def packed(name: str, raw: np.ndarray, columns: int) -> np.ndarray:
    """Return rows of a file as packed groups."""
    out = np.zeros((-(-len(raw) // 16), FORMATS[name].group_bytes(columns)), np.uint8)
    FORMATS[name].pack(raw, out)
    return out


def byte_panels(x: np.ndarray) -> np.ndarray:
    """Return uint8 [panels, blocks, 448] as `activations` lays out what `reference.quantise` says."""
    quants, scales, sums = reference.quantise(x)
    blocks = quants.reshape(len(x), -1, act.COLUMNS)
    halves = -blocks.reshape(len(x), -1, 2, 16).sum(axis=3, dtype=np.int32)
    panels = np.zeros((-(-len(x) // act.ROWS), blocks.shape[1], act.BYTES_BLOCK), np.uint8)
    scalars = (scales, sums, halves.sum(axis=2, dtype=np.int32), halves[..., 0], halves[..., 1])
    places = (act.SCALES, act.SUMS, act.NEGATED, act.HALVES, act.HALVES + 4 * act.ROWS)
    for row in range(len(x)):
        panel, lane = panels[row // act.ROWS], row % act.ROWS
        panel[:, 32 * lane : 32 * lane + 32] = blocks[row].view(np.uint8)
        for place, values in zip(places, scalars, strict=True):
            at = place + 4 * lane
            panel[:, at : at + 4] = np.ascontiguousarray(values[row]).view(np.uint8).reshape(-1, 4)
    return panels


def float_panels(x: np.ndarray) -> np.ndarray:
    """Return float32 [panels, columns, 8]."""
    rows = np.zeros((-(-len(x) // act.ROWS) * act.ROWS, x.shape[1]), np.float32)
    rows[: len(x)] = x
    return np.ascontiguousarray(rows.reshape(-1, act.ROWS, x.shape[1]).transpose(0, 2, 1))


def product(
    name: str,
    raw: np.ndarray,
    x: np.ndarray,
    *,
    units: int = 1,
    bias: np.ndarray | None = None,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Return what a type's product leaves: float32 [rows, outputs], added to ``held`` if that is given."""
    rows, columns = x.shape
    is_quantised = isinstance(FORMATS[name], Quantised)
    weights, panels = packed(name, raw, columns), byte_panels(x) if is_quantised else float_panels(x)
    outputs = len(raw)
    out = np.full((rows + 1, outputs + 3), np.nan, np.float32)  # around what may be written
    if held is not None:
        out[:rows, :outputs] = held
    padded = np.zeros(weights.shape[0] * 16, np.float32)
    padded[:outputs] = 0 if bias is None else bias
    op = {
        LinearOp.WEIGHTS: weights,
        LinearOp.GROUP_BYTES: weights.shape[1],
        LinearOp.BLOCKS: columns // 32 if is_quantised else columns,
        LinearOp.OUTPUTS: outputs,
        LinearOp.PANELS: panels,
        LinearOp.PANEL_BYTES: panels[0].nbytes,
        LinearOp.OUT: out,
        LinearOp.OUT_STRIDE: out.strides[0],
        LinearOp.BIAS: 0 if bias is None else padded,
        LinearOp.ADDS: held is not None,
        LinearOp.ROWS: ROWS,
        LinearOp.UNITS: units,
    }
    call(KERNELS[name].linear, op, {ROWS: rows}, units)
    assert np.isnan(out[rows:]).all()
    assert np.isnan(out[:, outputs:]).all()
    return out[:rows, :outputs].copy()
