"""The CPU's kernels on arrays of any element type, for a simulated device that serves in half precision.

Narrow arrays are widened, computed on in float32 and rounded once, as on a GPU. Only what changed is written back,
because other streams copy KV in and out meanwhile.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import cpu

NARROW = ("float16", "bfloat16")


class RoundingKernels:
    """The ops of `kernels.cpu`, by their names."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        op = getattr(cpu, name)

        def compute(*arguments: Any) -> None:
            wide = [argument.astype(np.float32) if _is_narrow(argument) else argument for argument in arguments]
            pairs = [pair for pair in zip(arguments, wide, strict=True) if pair[0] is not pair[1]]
            before = [array.copy() for _, array in pairs]
            op(*wide)
            for (narrow, array), old in zip(pairs, before, strict=True):
                changed = array.view(np.uint32) != old.view(np.uint32)  # NaN equals itself
                np.copyto(narrow, array.astype(narrow.dtype), where=changed)

        return compute


def _is_narrow(argument: Any) -> bool:
    return isinstance(argument, np.ndarray) and argument.dtype.name in NARROW
