"""Machines with simulated GPUs, for servers that tests start."""

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
