"""Machines with simulated GPUs, for servers that tests start."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import cpu
from service.errors import DeviceNotFoundError
from service.execution.gpu.runtime import Runtime


class SimulatedDevices:
    """GPUs by number; None: one that is there but does not work."""

    def __init__(self, *runtimes: Runtime | None) -> None:
        self._runtimes = runtimes

    def count(self) -> int:
        if not self._runtimes:
            raise DeviceNotFoundError("no driver")
        return len(self._runtimes)

    def open(self, number: int) -> Runtime:
        if number >= len(self._runtimes):
            raise DeviceNotFoundError(f"cuda:{number}: there are {len(self._runtimes)}")
        runtime = self._runtimes[number]
        if runtime is None:
            raise DeviceNotFoundError(f"cuda:{number} does not work")
        return runtime


class RoundingKernels:
    """The CPU's ops on arrays of any element type: widened to float32, and what came of it rounded again."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        op = getattr(cpu, name)

        def compute(*arguments: Any) -> None:
            widened = [_widened(argument) for argument in arguments]
            op(*widened)
            for argument, wide in zip(arguments, widened, strict=True):
                if wide is not argument:
                    argument[...] = wide

        return compute


def _widened(argument: Any) -> Any:
    is_narrow = isinstance(argument, np.ndarray) and argument.dtype.name in ("bfloat16", "float16")
    return argument.astype(np.float32) if is_narrow else argument
