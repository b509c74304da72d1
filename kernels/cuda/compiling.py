"""Compiles kernels to PTX, ahead of time and without a device."""

# mypy: allow-untyped-calls

from types import SimpleNamespace
from unittest.mock import patch

from numba import cuda
from numba.cuda import dispatcher, types

from kernels.cuda.kernel import Kernel


def to_ptx(kernel: Kernel, architecture: tuple[int, int]) -> str:
    """Compile for compute capability ``architecture`` (8.0 and later); one compilation at a time in a process."""
    threads = kernel.threads[0] * kernel.threads[1]
    # Numba asks the current device for its capability when it compiles a device function, although it only makes
    # LLVM's intermediate code then.
    device = SimpleNamespace(compute_capability=architecture)
    with patch.object(dispatcher, "get_current_device", lambda: device):
        text: str = cuda.compile(
            kernel.function,
            types.void(*kernel.parameters),
            cc=architecture,
            output="ptx",
            device=False,
            abi="numba",
            launch_bounds=(threads, kernel.resident) if kernel.resident else (threads,),
        )[0]
    return text
