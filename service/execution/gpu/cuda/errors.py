"""CUDA's errors as ours, by status. Its runtime and its driver number those that matter here alike.

A lost device answers every call with its loss, whatever was asked. All other errors are one call's.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from kernels.cuda.matrices import ALLOC_FAILED, CublasError
from service.errors import DeviceLostError, DeviceMemoryError
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
    999,  # Unknown: what is said of a device that fell off the bus
}


class Device(Protocol):
    """Whose errors these are."""

    @property
    def name(self) -> str:
        """cuda:0."""

    @property
    def error_types(self) -> tuple[type[Exception], ...]:
        """CuPy's: they have a ``status``."""

    def memory(self) -> tuple[int, int]:
        """Bytes: free, total."""


class OfDevice(Protocol):
    """What calls a device."""

    @property
    def device(self) -> Device:
        """That one."""


S = TypeVar("S", bound=OfDevice)
P = ParamSpec("P")
R = TypeVar("R")


def translated(error: Exception, device: Device, asked: int | None = None) -> Exception:
    """CuPy's error, or cuBLAS's, as one of ours; itself if it is no loss, no want of memory and no refused capture.

    ``asked``: bytes, where memory was asked for.
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


def _out_of_memory(device: Device, asked: int | None) -> DeviceMemoryError:
    free, total = device.memory()
    return DeviceMemoryError(device.name, asked=asked, free=free, total=total)


def translating(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """A method whose errors are ours."""

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
