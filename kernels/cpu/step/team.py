"""Runs a program by a team of threads, without the interpreter.

Operations run one after the other. An operation has units; a thread takes the next one by a ticket, until none is left,
then waits until all are done. So a program ends with any number of threads, also if the pool runs the members of a team
one after the other: the first does everything. Results do not depend on who takes what, because units share no outputs.

A thread waits by spinning for a few microseconds, which on idle cores is the quickest, and then by giving its core away
again and again: on busy cores, what it waits for may need that core.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from llvmlite import ir
from numba import njit, prange, types

from kernels.cpu.step.memory import longs
from kernels.cpu.step.step_input import ROWS_PER_UNIT
from kernels.cpu.step.vectors import INT, LONG, emitted

KERNEL, COUNTED, UNITS = range(3)  # the first operands of every operation: see `count_units`
OPERANDS = 24
FIXED = -1  # there are `UNITS` units

COUNTERS = 16  # int64 of an operation: tickets, and, on the next cache line but one, what is done
_DONE = 8
SPINS = 2000  # 30 to 60 us, longer than most units take


@emitted(5)
def _call(emit, kernel, op, step, unit, scratch):
    signature = ir.FunctionType(ir.VoidType(), [LONG] * 4)
    emit.builder.call(emit.builder.inttoptr(kernel, signature.as_pointer()), [op, step, unit, scratch])


@emitted(1, types.int64)
def _take(emit, counter):
    return emit.builder.atomic_rmw("add", emit.pointer(counter, LONG), LONG(1), "monotonic")


@emitted(2)
def _finish(emit, counter, count):
    emit.builder.atomic_rmw("add", emit.pointer(counter, LONG), count, "release")


@emitted(2)
def _wait(emit, counter, count):
    """Wait until a counter reaches ``count``."""
    builder, spins = emit.builder, emit.variable(LONG(0))
    look, idle, end = (builder.append_basic_block(name) for name in ("look", "idle", "end"))
    builder.branch(look)
    builder.position_at_end(look)
    reached = builder.load_atomic(emit.pointer(counter, LONG), "acquire", 8)
    builder.cbranch(builder.icmp_signed(">=", reached, count), end, idle)
    builder.position_at_end(idle)
    spins.set(emit.offset(spins.get(), 1))
    with builder.if_else(builder.icmp_signed("<", spins.get(), LONG(SPINS))) as (spin, give_way):
        with spin:
            emit.pause()
        with give_way:
            emit.call("sched_yield", INT)
    builder.branch(look)
    builder.position_at_end(end)


@njit(nogil=True, cache=True)
def count_units(op, step):
    """Return how many units an operation has in a step."""
    operands, inputs = longs(op), longs(step)
    counted, units = operands[COUNTED], operands[UNITS]
    if counted == FIXED:
        return units
    if counted < FIXED:  # units for each of an input
        return inputs[-counted] * units
    rows = inputs[ROWS_PER_UNIT]
    return (inputs[counted] + rows - 1) // rows * units


@njit(nogil=True, cache=True)
def _work(ops, number, step, counters, scratch):
    """Do a member's part of a program."""
    for index in range(number):
        op, counter = ops + index * OPERANDS * 8, counters + index * COUNTERS * 8
        units, done = count_units(op, step), 0
        kernel = longs(op)[KERNEL]
        unit = _take(counter)
        while unit < units:
            _call(kernel, op, step, unit, scratch)
            done += 1
            unit = _take(counter)
        if done:
            _finish(counter + _DONE * 8, done)
        _wait(counter + _DONE * 8, units)


@njit(nogil=True, parallel=True, cache=True)
def run(threads, ops, step, counters, scratch):
    """Run a program: ops int64 [n, OPERANDS], step int64, counters int64 [n, COUNTERS], scratch uint8 [threads, *]."""
    counters[:] = 0
    for member in prange(threads):
        _work(ops.ctypes.data, len(ops), step.ctypes.data, counters.ctypes.data, scratch[member].ctypes.data)
