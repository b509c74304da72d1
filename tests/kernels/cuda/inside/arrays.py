"""Arrays for kernels of any element type, and what the reference makes of them.

TOLERANCES are those of results of order 1, by type. The reference computes in float32 on the same rounded inputs, so
what differs is the rounding of the result (2^-9 of it for bfloat16, 2^-12 for float16), and for float32 the order of
the sums. Tensor cores want weights that are rounded before they are applied, which adds as much for each summand:
``spread`` widens the absolute tolerance.
"""

import ml_dtypes
import numpy as np

from kernels.cuda.ops import Ops
from kernels.cuda.simulated import simulator

DTYPES = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
TOLERANCES = {"float32": (1e-5, 2e-6), "float16": (2**-10, 2**-13), "bfloat16": (2**-7, 2**-10)}


def random(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng((seed, *shape)).standard_normal(shape, dtype=np.float32)
    return values.astype(DTYPES[dtype])


def fill(dtype: str, *shape: int) -> np.ndarray:
    return np.full(shape, np.nan, DTYPES[dtype])


def wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


def close(got: np.ndarray, expected: np.ndarray, dtype: str, factor: float = 1, spread: float = 1) -> None:
    rtol, atol = TOLERANCES[dtype]
    np.testing.assert_allclose(wide(got), expected, rtol=factor * rtol, atol=factor * spread * atol)


def ops(scratch: int = 1 << 20, processors: int = 4, seed: int = 0) -> Ops:
    def launch(kernel: object, grid: tuple[int, ...], *arguments: object) -> None:
        simulator.launch(kernel, grid, *arguments, seed=seed)

    return Ops(launch, simulator.multiply, np.full(scratch, np.nan, np.float32), processors)
