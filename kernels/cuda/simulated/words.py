"""The instructions of `device_words` in NumPy, for the simulator."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np
from greenlet import getcurrent

from kernels.cuda.simulated.simulator import collective


def load_16(memory, vector):
    """See `device_words.load_16`."""
    return tuple(memory[4 * int(vector) + i] for i in range(4))


load_16_constant = load_16


def store_16(memory, vector, a, b, c, d):
    """See `device_words.store_16`."""
    for i, word in enumerate((a, b, c, d)):
        memory[4 * int(vector) + i] = word


def float_of(word):
    """See `device_words.float_of`."""
    return np.uint32(word).view(np.float32)


def word_of(x):
    """Return the bits of a float32."""
    return np.float32(x).view(np.uint32)


def bf16_low(word):
    """Return the lower half, a bfloat16."""
    return np.uint32((int(word) & 0xFFFF) << 16).view(np.float32)


def bf16_high(word):
    """Return the upper half, a bfloat16."""
    return np.uint32(int(word) & 0xFFFF0000).view(np.float32)


def f16_low(word):
    """Return the lower half, a float16."""
    return np.float32(np.uint16(int(word) & 0xFFFF).view(np.float16))


def f16_high(word):
    """Return the upper half, a float16."""
    return np.float32(np.uint16(int(word) >> 16).view(np.float16))


def pack_f16(low, high):
    """Round two float32 to float16."""
    return np.uint32(int(np.float16(low).view(np.uint16)) | int(np.float16(high).view(np.uint16)) << 16)


def pack_bf16(low, high):
    """Round two float32 to bfloat16."""
    return np.uint32(_bf16_bits(low) | _bf16_bits(high) << 16)


def _bf16_bits(x):
    """Round to nearest even; every NaN becomes the one that the instruction makes."""
    if np.isnan(x):
        return 0x7FFF
    bits = int(np.float32(x).view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def exp2(x):
    """Return 2^x."""
    return np.exp2(np.float32(x))


def inverse_root(x):
    """Return 1 / sqrt(x)."""
    return np.float32(1) / np.sqrt(np.float32(x))


def divide(x, y):
    """Return x / y."""
    return np.float32(x) / np.float32(y)


def copy_16_async(shared, to, memory, vector, valid):
    """See `device_words.copy_16_async`. The target is poisoned at once; the copy is there after the wait."""
    target = _vector(shared, to)
    target[:] = 0xFFFFFFFF
    words = load_16(memory, vector) if valid else 0
    getcurrent().copies.append((target, words))


def wait_for_copies():
    """See `device_words.wait_for_copies`."""
    copies = getcurrent().copies
    for target, words in copies:
        target[:] = words
    copies.clear()


def _vector(shared, number):
    """Return four words of a shared array."""
    if not 0 <= number < len(shared) // 4:
        raise IndexError(f"{number} is not among {len(shared) // 4} vectors")
    return shared[4 * int(number) : 4 * int(number) + 4]


def load_matrices(shared, vector):
    """See `device_words`."""
    return collective("ldmatrix", _vector(shared, vector), _four_matrices)


def load_matrices_transposed(shared, vector):
    """See `device_words`."""
    return collective("ldmatrix", _vector(shared, vector), _four_matrices_transposed)


def _four_matrices(vectors):
    matrices = np.array(vectors)  # [matrix and row, word]
    return matrices.reshape(4, 32).T  # [lane, matrix]


def _four_matrices_transposed(vectors):
    halves = np.array(vectors).view(np.uint16).reshape(4, 8, 8)  # [matrix, row, column]
    return np.ascontiguousarray(halves.swapaxes(1, 2)).view(np.uint32).reshape(4, 32).T


def multiply_bf16(*registers):
    """See `device_words`."""
    return collective("mma", registers, lambda lanes: _multiply(lanes, _bf16_pairs))


def multiply_f16(*registers):
    """See `device_words`."""
    return collective("mma", registers, lambda lanes: _multiply(lanes, _f16_pairs))


def _bf16_pairs(words):
    return np.stack([words << np.uint32(16), words & np.uint32(0xFFFF0000)], -1).view(np.float32)


def _f16_pairs(words):
    return words.view(np.float16).reshape(*words.shape, 2).astype(np.float32)


def _multiply(lanes, pairs):
    """Multiply the fragments of 32 lanes: lanes are groups of four, registers are halves of an axis."""
    words = pairs(np.array([lane[:6] for lane in lanes], np.uint32))  # [lane, register, element]
    a = words[:, :4].reshape(8, 4, 2, 2, 2)  # [group, number, half of columns, half of rows, element]
    b = words[:, 4:].reshape(8, 4, 2, 2)  # [group, number, half of rows, element]
    c = np.array([lane[6:] for lane in lanes], np.float32).reshape(8, 4, 2, 2)  # [group, number, half of rows, element]
    a = a.transpose(3, 0, 2, 1, 4).reshape(16, 16)
    b = b.transpose(2, 1, 3, 0).reshape(16, 8)
    out = a @ b + c.transpose(2, 0, 1, 3).reshape(16, 8)
    return out.reshape(2, 8, 4, 2).transpose(1, 2, 0, 3).reshape(32, 4)
