"""What kernels share whose units are rows of activations, and where they leave what products read.

Operands of such operations from `SINK` on say where: panels of bytes, panels of floats, or both.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import njit

from kernels.cpu.step.activations import quantise, spread
from kernels.cpu.step.memory import longs
from kernels.cpu.step.step_input import ROWS_PER_UNIT

SINK = 16
BYTES, BYTES_PANEL, FLOATS, FLOATS_PANEL = range(SINK, SINK + 4)  # address (0: none) and bytes of a panel


@njit(nogil=True, cache=True)
def unit_rows(step, unit, count):
    """Return the first row of a unit and the one after its last, of ``count`` rows."""
    rows = longs(step)[ROWS_PER_UNIT]
    return unit * rows, min(count, (unit + 1) * rows)


@njit(nogil=True, cache=True)
def sink(op, row, values, first, columns):
    """Leave float32 at ``values`` as columns ``first`` to ``first + columns`` of a row of activations."""
    operands = longs(op)
    panel, lane = row >> 3, row & 7
    if operands[BYTES] != 0:
        quantise(values, columns, operands[BYTES] + panel * operands[BYTES_PANEL], lane, first >> 5)
    if operands[FLOATS] != 0:
        spread(values, columns, operands[FLOATS] + panel * operands[FLOATS_PANEL] + first * 32, lane)
