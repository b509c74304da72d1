"""The instructions that Numba has no name for, on the device or in the simulator."""

from kernels.cuda.kernel import SIMULATED

if SIMULATED:
    from kernels.cuda.simulated_words import (
        bf16_high,
        bf16_low,
        divide,
        exp2,
        f16_high,
        f16_low,
        float_of,
        inverse_root,
        load_16,
        load_16_constant,
        pack_bf16,
        pack_f16,
        store_16,
        word_of,
    )
else:
    from kernels.cuda.device_words import (
        bf16_high,
        bf16_low,
        divide,
        exp2,
        f16_high,
        f16_low,
        float_of,
        inverse_root,
        load_16,
        load_16_constant,
        pack_bf16,
        pack_f16,
        store_16,
        word_of,
    )

__all__ = [
    "bf16_high",
    "bf16_low",
    "divide",
    "exp2",
    "f16_high",
    "f16_low",
    "float_of",
    "inverse_root",
    "load_16",
    "load_16_constant",
    "pack_bf16",
    "pack_f16",
    "store_16",
    "word_of",
]
