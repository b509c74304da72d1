"""NVIDIA's GPUs of this machine. What drives them is imported when it is asked for them: the CPU needs none of it."""

from service.execution.gpu.runtime import Runtime


class NvidiaDevices:
    """By their numbers as CUDA counts them, which heeds CUDA_VISIBLE_DEVICES."""

    def count(self) -> int:
        """How many there are. Raises DeviceNotFoundError without CuPy or a driver."""
        from service.execution.gpu.cupy_runtime import device_count  # noqa: PLC0415

        return device_count()

    def open(self, number: int) -> Runtime:
        """One of them. Raises DeviceNotFoundError."""
        from service.execution.gpu.cupy_runtime import CuPyRuntime  # noqa: PLC0415

        return CuPyRuntime(number)
