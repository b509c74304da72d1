"""The ops of `kernels.reference` on the CPU: Numba kernels, compiled at first use and cached on disk.

They run `numba.get_num_threads()` threads. Numba's ``omp`` layer (libgomp) enters a parallel loop in 2 us, its fallback
``workqueue`` in 80 us, of which a step has 150. Only one thread may call them at a time.
"""

from kernels.cpu.attention import paged_attention
from kernels.cpu.layers import add_rms_norm, head_rms_norm, rms_norm, rope, silu_mul, store_kv
from kernels.cpu.linear import linear
from kernels.cpu.sampling import finite_rows, penalize, sample, top_logprobs
from kernels.reference import add_bias, take_rows

__all__ = [
    "add_bias",
    "add_rms_norm",
    "finite_rows",
    "head_rms_norm",
    "linear",
    "paged_attention",
    "penalize",
    "rms_norm",
    "rope",
    "sample",
    "silu_mul",
    "store_kv",
    "take_rows",
    "top_logprobs",
]
