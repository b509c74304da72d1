"""The CPU's kernels for elements of any type: the simulated device computes with them.

Half-precision arrays are widened, computed in float32 and rounded once, as on a GPU. Only what changed is written back:
other streams copy KV meanwhile.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import cpu


class AnyTypeKernels:
    """The names of `kernels.cpu`."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        op = getattr(cpu, name)

        def widened(*arguments: Any) -> None:
            wide = [argument.astype(np.float32) if _is_half(argument) else argument for argument in arguments]
            before = [array.copy() if _is_half(given) else None for given, array in zip(arguments, wide, strict=True)]
            op(*wide)
            for given, array, old in zip(arguments, wide, before, strict=True):
                if old is not None:
                    np.copyto(given, array.astype(given.dtype), where=array.view(np.uint32) != old.view(np.uint32))

        return widened


def _is_half(argument: Any) -> bool:
    return isinstance(argument, np.ndarray) and argument.dtype.name in ("float16", "bfloat16")
