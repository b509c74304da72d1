"""The ops of `kernels.reference` on the CPU: Numba kernels, compiled at first use and cached on disk.

They run on `numba.get_num_threads()` threads. Numba's ``omp`` layer (libgomp) enters a parallel loop in 2 us, its
fallback ``workqueue`` in 80 us, and a decode of 30 layers has 150 such loops. Only one thread at a time may call them.
"""

import os

from kernels.cpu import compile_cache  # noqa: F401 - before there is a kernel

# isort: split

from kernels.cpu.attention import paged_attention
from kernels.cpu.layers import add_rms_norm, head_rms_norm, rms_norm, rope, rope_store_kv, silu_mul, store_kv
from kernels.cpu.linear import linear
from kernels.cpu.logits import finite_rows, penalize
from kernels.cpu.logprobs import top_logprobs
from kernels.cpu.sampling import sample
from kernels.reference import add_biases, clear_rows, count_tokens, move_runs, pick_tokens, put_tokens, take_rows

__all__ = [
    "add_biases",
    "add_rms_norm",
    "clear_rows",
    "count_tokens",
    "finite_rows",
    "head_rms_norm",
    "linear",
    "move_runs",
    "paged_attention",
    "penalize",
    "pick_tokens",
    "put_tokens",
    "rms_norm",
    "rope",
    "rope_store_kv",
    "sample",
    "silu_mul",
    "store_kv",
    "take_rows",
    "top_logprobs",
]

# libgomp reads this when the first kernel runs. Its default of 300,000 spins (5 ms) takes the processor from other
# processes: beside 5 busy ones on 2 cores, 16 streams decode at 11 tokens/s, and at 119 with 2,000 spins (40 us, just
# longer than the gaps between kernels). On an idle machine the two are equal.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "2000"
