"""RMS norm of rows of the residual, left as activations for the products that follow.

512 rows of 576 columns, 61 times: 2.8 ms on two Zen 5 cores, most of it for quantising.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math

import numpy as np
from llvmlite import ir
from numba import njit, types

from kernels.cpu.step.memory import floats, ints, longs
from kernels.cpu.step.rows import sink, unit_rows
from kernels.cpu.step.step_input import DRAWS, LOGITS_INDICES, TOKENS
from kernels.cpu.step.unit_kernel import unit_kernel
from kernels.cpu.step.vectors import FLOATS, LANES, LONG, Emit, constant, emitted

SOURCE, STRIDE, WEIGHT, COLUMNS, EPS = range(3, 8)  # EPS: float32 as an integer of its bits


@emitted(2, types.float32)
def _sum_of_squares(emit: Emit, address: ir.Value, count: ir.Value) -> ir.Value:
    """Lane i adds the squares of elements i, i + 16, ...; count is a multiple of 16."""
    total = emit.variable(constant(0.0))
    with emit.loop(emit.builder.lshr(count, LONG(4))) as index:
        values = emit.load(FLOATS, address, emit.times(index, 4 * LANES))
        total.set(emit.add_product(values, values, total.get()))
    return emit.sum_of_floats(total.get())


@njit(nogil=True, cache=True, error_model="numpy")
def inverse_rms(address, columns, eps_bits):
    """Return 1 / sqrt(mean of squares + eps) of float32 at an address."""
    whole = columns // 16 * 16
    total = _sum_of_squares(address, whole)
    x = floats(address)
    for i in range(whole, columns):
        total += x[i] * x[i]
    eps = np.int32(eps_bits).view(np.float32)
    return np.float32(1.0) / math.sqrt(total / np.float32(columns) + eps)


@njit(nogil=True, cache=True)
def _norm_row(op, source_row, row, scratch):
    operands = longs(op)
    columns = operands[COLUMNS]
    source = operands[SOURCE] + source_row * operands[STRIDE]
    scale = inverse_rms(source, columns, operands[EPS])
    x, weight, y = floats(source), floats(operands[WEIGHT]), floats(scratch)
    for i in range(columns):
        y[i] = x[i] * scale * weight[i]
    sink(op, row, scratch, 0, columns)


@unit_kernel
def norm(op, step, unit, scratch):
    """Normalise rows of all tokens."""
    first, last = unit_rows(step, unit, longs(step)[TOKENS])
    for row in range(first, last):
        _norm_row(op, row, row, scratch)


@unit_kernel
def norm_of_draws(op, step, unit, scratch):
    """Normalise the rows of tokens after which one is drawn."""
    inputs = longs(step)
    first, last = unit_rows(step, unit, inputs[DRAWS])
    for row in range(first, last):
        _norm_row(op, ints(inputs[LOGITS_INDICES])[row], row, scratch)
