"""What `device_words` does, in NumPy, for the simulator."""

# mypy: allow-untyped-defs, allow-untyped-calls

import numpy as np


def load_16(memory, vector):
    """See `device_words.load_16`."""
    return tuple(memory[4 * int(vector) + i] for i in range(4))


load_16_constant = load_16


def store_16(memory, vector, a, b, c, d):
    """See `device_words.store_16`."""
    for i, word in enumerate((a, b, c, d)):
        memory[4 * int(vector) + i] = word


def float_of(word):
    """See `device_words`, like all below."""
    return np.uint32(word).view(np.float32)


def word_of(x):
    """The bits of a float32."""
    return np.float32(x).view(np.uint32)


def bf16_low(word):
    """The lower half as bfloat16."""
    return np.uint32((int(word) & 0xFFFF) << 16).view(np.float32)


def bf16_high(word):
    """The upper half as bfloat16."""
    return np.uint32(int(word) & 0xFFFF0000).view(np.float32)


def f16_low(word):
    """The lower half as float16."""
    return np.float32(np.uint16(int(word) & 0xFFFF).view(np.float16))


def f16_high(word):
    """The upper half as float16."""
    return np.float32(np.uint16(int(word) >> 16).view(np.float16))


def pack_f16(low, high):
    """Two float32 rounded to float16."""
    return np.uint32(int(np.float16(low).view(np.uint16)) | int(np.float16(high).view(np.uint16)) << 16)


def pack_bf16(low, high):
    """Two float32 rounded to bfloat16."""
    return np.uint32(_bf16_bits(low) | _bf16_bits(high) << 16)


def _bf16_bits(x):
    """Rounded to nearest even; every NaN becomes the one that the instruction makes."""
    if np.isnan(x):
        return 0x7FFF
    bits = int(np.float32(x).view(np.uint32))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def exp2(x):
    """2^x."""
    return np.exp2(np.float32(x))


def inverse_root(x):
    """1 / sqrt(x)."""
    return np.float32(1) / np.sqrt(np.float32(x))


def divide(x, y):
    """Their quotient."""
    return np.float32(x) / np.float32(y)
