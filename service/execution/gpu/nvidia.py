"""NVIDIA's GPUs of this machine."""

from service.execution.gpu.cuda_device import device_count
from service.execution.gpu.cupy_runtime import CuPyRuntime
from service.execution.gpu.runtime import Runtime


class NvidiaDevices:
    """By their numbers as CUDA counts them. What drives them is imported when it is asked for them."""

    def count(self) -> int:
        """How many there are. Raises DeviceNotFoundError without CuPy or a driver."""
        return device_count()

    def open(self, number: int) -> Runtime:
        """One of them. Raises DeviceNotFoundError."""
        return CuPyRuntime(number)
