"""Loops that several formats pack with: 32 quants of a row go to its lanes of the group's vectors.

Numba has them, since NumPy's strided copies take 2.7 s for SmolLM2's 98 MB, these 0.1.
"""

# mypy: allow-untyped-defs, allow-untyped-calls

from numba import njit


@njit(nogil=True, cache=True)
def put_nibbles(quants, row, out, at):
    """Write the low 4 bits of 32 quants as a row's bytes of 4 vectors: columns 8c + j low, 8c + 4 + j high."""
    for c in range(4):
        for j in range(4):
            low, high = quants[8 * c + j] & 15, quants[8 * c + 4 + j] & 15
            out[at + 64 * c + 4 * row + j] = low | high << 4


@njit(nogil=True, cache=True)
def put_pairs_of_bits(quants, row, out, at):
    """Write bits 4 and 5 of 32 quants as a row's bytes of 2 vectors: columns 16h + 4k + j at bit 2k."""
    for h in range(2):
        for j in range(4):
            byte = 0
            for k in range(4):
                byte |= (quants[16 * h + 4 * k + j] >> 4 & 3) << 2 * k
            out[at + 64 * h + 4 * row + j] = byte


@njit(nogil=True, cache=True)
def put_bytes(quants, row, out, at):
    """Write 32 quants as a row's bytes of 8 vectors: columns 4c + j."""
    for c in range(8):
        for j in range(4):
            out[at + 64 * c + 4 * row + j] = quants[4 * c + j]


@njit(nogil=True, cache=True)
def put_half(raw, source, row, out, at):
    """Copy a row's float16 into 16 of them."""
    out[at + 2 * row] = raw[source]
    out[at + 2 * row + 1] = raw[source + 1]


@njit(nogil=True, cache=True)
def transpose(raw, out):
    """Pack groups of 16-bit numbers: raw [rows, columns], out [groups, numbers of a group], both uint16."""
    columns = raw.shape[1]
    for group in range(raw.shape[0] // 16):
        for column in range(columns):
            for row in range(16):
                out[group, 16 * column + row] = raw[16 * group + row, column]
