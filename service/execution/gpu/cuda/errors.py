"""CUDA's errors as ours, by status. For those that matter here, its runtime and its driver have the same numbers.

A lost device fails every call, whatever it asks for. All other errors are one call's.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kernels.cuda.matrices import ALLOC_FAILED, CublasError
from service.errors import DeviceLostError, DeviceMemoryError
from service.execution.gpu.cuda.device import CudaDevice
from service.execution.gpu.runtime import CaptureError

NOT_READY = 600
OUT_OF_MEMORY = 2
CAPTURE = range(900, 909)  # cudaErrorStreamCaptureUnsupported to ..WrongThread
LOST = {
    214,  # cudaErrorECCUncorrectable
    220,  # NvlinkUncorrectable
    226,  # Contained
    700,  # IllegalAddress
    702,  # LaunchTimeout
    709,  # ContextIsDestroyed
    710,  # Assert
    714,  # HardwareStackError
    715,  # IllegalInstruction
    716,  # MisalignedAddress
    717,  # InvalidAddressSpace
    718,  # InvalidPc
    719,  # LaunchFailure
    721,  # TensorMemoryLeak
    810,  # MpsClientTerminated
    911,  # ExternalDevice
    999,  # Unknown: reported for a device that fell off the bus
}


class _CallsDevice(Protocol):
    device: CudaDevice


S = TypeVar("S", bound=_CallsDevice)
P = ParamSpec("P")
R = TypeVar("R")


def translated(error: Exception, device: CudaDevice, asked: int | None = None) -> Exception:
    """Return CuPy's or cuBLAS's error as one of ours: a lost device, no memory, a refused capture; else itself.

    ``asked``: bytes, if the call asked for memory.
    """
    if isinstance(error, CublasError):
        return _out_of_memory(device, asked) if error.status == ALLOC_FAILED else error
    if not isinstance(error, device.error_types):
        return error
    status: int = error.status  # type: ignore[attr-defined]
    if status in LOST:
        return DeviceLostError(f"{device.name} is lost: {error}")
    if status == OUT_OF_MEMORY:
        return _out_of_memory(device, asked)
    return CaptureError(str(error)) if status in CAPTURE else error


def _out_of_memory(device: CudaDevice, asked: int | None) -> DeviceMemoryError:
    free, total = device.memory()
    return DeviceMemoryError(device.name, asked=asked, free=free, total=total)


def translating(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Make a method raise our errors in place of CuPy's and cuBLAS's."""

    @wraps(method)
    def call(self: S, /, *args: P.args, **named: P.kwargs) -> R:
        try:
            return method(self, *args, **named)
        except RuntimeError as error:
            ours = translated(error, self.device)
            if ours is error:
                raise
            raise ours from error

    return call
