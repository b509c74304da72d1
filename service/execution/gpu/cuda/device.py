"""One of NVIDIA's devices, through CuPy, which is imported only when the first device is opened."""

from typing import Any

from service.errors import DeviceNotFoundError
from service.execution.gpu.runtime import DeviceInfo

LEAST_CAPABILITY = (8, 0)  # that the kernels need: bfloat16, and copies that run beside them


def device_count() -> int:
    """Return how many devices CUDA shows, which respects CUDA_VISIBLE_DEVICES. Raises DeviceNotFoundError."""
    cuda = _import_cupy().cuda
    try:
        count: int = cuda.runtime.getDeviceCount()
    except cuda.runtime.CUDARuntimeError as error:  # no device, no driver, or a driver that is too old
        raise DeviceNotFoundError(f"no NVIDIA GPU can be used: {error}") from error
    return count


class CudaDevice:
    """Device ``number`` in CUDA's order. Raises DeviceNotFoundError."""

    def __init__(self, number: int) -> None:
        self.name = f"cuda:{number}"
        count = device_count()
        if not 0 <= number < count:
            raise DeviceNotFoundError(f"{self.name} is not there: CUDA shows {count} device(s), from cuda:0 on")
        self.cupy = _import_cupy()
        self.cuda, self.runtime = self.cupy.cuda, self.cupy.cuda.runtime
        self.error_types: tuple[type[Exception], ...] = (
            self.runtime.CUDARuntimeError,
            self.cuda.driver.CUDADriverError,
        )
        self.handle = self.cuda.Device(number)
        try:
            self.info = self._query(number)
        except self.error_types as error:  # busy, forbidden, broken
            raise DeviceNotFoundError(f"{self.name} cannot be used: {error}") from error
        if self.info.capability < LEAST_CAPABILITY:
            major, minor = self.info.capability
            raise DeviceNotFoundError(f"{self.name} ({self.info.name}) has compute capability {major}.{minor}, not 8.0")

    def memory(self) -> tuple[int, int]:
        """Return the device's memory in bytes: free, total."""
        free, total = self.handle.mem_info
        return int(free), int(total)

    def _query(self, number: int) -> DeviceInfo:
        properties = self.runtime.getDeviceProperties(number)
        return DeviceInfo(
            device=self.name,
            name=properties["name"].decode(),
            capability=(properties["major"], properties["minor"]),
            processors=properties["multiProcessorCount"],
            total_bytes=self.memory()[1],
            driver=_version(self.runtime.driverGetVersion()),
            runtime=_version(self.runtime.runtimeGetVersion()),
        )


def _import_cupy() -> Any:
    try:
        import cupy  # noqa: PLC0415
    except ImportError as error:
        raise DeviceNotFoundError(f"no GPU without CuPy: install fastswitch[gpu] ({error})") from error
    return cupy


def _version(number: int) -> str:
    """Return the version behind CUDA's number: 13000 is 13.0."""
    return f"{number // 1000}.{number % 1000 // 10}"
