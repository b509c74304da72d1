"""Rows of logits, read by one block of threads: 16 bytes at a time, wherever a row begins.

A vocabulary may be no multiple of 4; where 16 bytes hold another row's logits too, they are read one by one. A token's
*distance* is how far its scaled logit is below the largest. Its *key* is the bits of the distance, in the same order.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

import math
from typing import Any, NamedTuple

from numba import cuda
from numba.cuda.types import float32, int32, int64, uint32

from kernels.cuda.elements import FLOAT32
from kernels.cuda.kernel import device
from kernels.cuda.masses import THREADS, mass_of
from kernels.cuda.words import float_of, word_of

FURTHEST = 0x7F800000  # the key of an infinite distance
NO_ID = 0x7FFFFFFF  # no token: above all token IDs

load_vector = FLOAT32.load_constant


class LogitsRow(NamedTuple):
    """The floats ``begin .. end`` of ``logits``, which are in ``vectors`` vectors from ``first`` on."""

    logits: Any
    begin: Any  # int64, like the next two
    end: Any
    first: Any
    vectors: Any  # int32


class Scaling(NamedTuple):
    """How logits become distances; both are float32."""

    peak: Any  # the largest logit
    inverse: Any  # 1 / temperature


@device
def row_at(logits, number, vocabulary):
    """Return the row ``number`` of logits [rows, vocabulary]."""
    begin = int64(number) * vocabulary
    end = begin + vocabulary
    first = begin >> 2
    return LogitsRow(logits, begin, end, first, int32(((end + 3) >> 2) - first))


@device
def load(row, vector, values, beyond):
    """Load four logits; those that are not this row's become ``beyond``."""
    at = (row.first + vector) << 2
    if at >= row.begin and at + 4 <= row.end:
        load_vector(row.logits, int64(row.first + vector), values)
    else:
        for i in range(4):
            inside = at + i >= row.begin and at + i < row.end
            values[i] = float_of(row.logits[at + i]) if inside else beyond


@device
def token_at(row, vector, i):
    """Return the token whose logit is element i of a vector."""
    return int32(((row.first + vector) << 2) + i - row.begin)


@device
def _ordered(x):
    """Return bits that order as the numbers do; both zeros are equal."""
    bits = word_of(x + float32(0))
    return uint32(bits ^ uint32(0xFFFFFFFF)) if bits >> 31 else uint32(bits ^ uint32(0x80000000))


@device
def largest(row, bound, bound_token, thread):
    """Return the first token of the largest logit after (bound, bound_token): smaller, or equal and later."""
    peak, first = cuda.shared.array(1, uint32), cuda.shared.array(1, int32)
    values = cuda.local.array(4, float32)
    best, token = float32(-math.inf), int32(NO_ID)
    for vector in range(thread, row.vectors, THREADS):
        load(row, vector, values, float32(-math.inf))
        for i in range(4):
            later = values[i] == bound and token_at(row, vector, i) > bound_token
            if (values[i] < bound or later) and values[i] > best:
                best, token = values[i], token_at(row, vector, i)
    key = _ordered(best)
    cuda.syncthreads()
    if thread == 0:
        peak[0], first[0] = uint32(0), int32(NO_ID)
    cuda.syncthreads()
    cuda.atomic.max(peak, 0, key)
    cuda.syncthreads()
    if key == peak[0]:
        cuda.atomic.min(first, 0, token)
    cuda.syncthreads()
    return first[0] if first[0] != NO_ID else int32(0)  # nothing is larger than minus infinity


@device
def distance_of(scale, logit):
    """Return the distance, at least 0 for a finite peak."""
    return (scale.peak - logit) * scale.inverse


@device
def key_of(distance):
    """Return the key of a distance; the sign of minus zero does not count."""
    return int32(word_of(distance) & 0x7FFFFFFF)


@device
def kept_mass(row, scale, limit, begin, end, step):
    """Return the mass of the kept tokens of the vectors ``begin:end:step``."""
    values, mass = cuda.local.array(4, float32), int64(0)
    vector = begin
    while vector < end:
        load(row, vector, values, float32(-math.inf))
        for i in range(4):
            distance = distance_of(scale, values[i])
            if key_of(distance) <= limit:
                mass += mass_of(distance)
        vector += step
    return mass
