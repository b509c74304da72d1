"""The choice of the device: the one that was asked for, or the first that works."""

from pathlib import Path
from typing import Protocol

import structlog

from service.cli.backend import Backend
from service.cli.cpu_backend import cpu_backend
from service.cli.gpu_backend import gpu_backend
from service.config import ServeSettings
from service.errors import DeviceNotFoundError
from service.execution.gpu.cuda.runtime import NvidiaDevices
from service.execution.gpu.runtime import Runtime
from service.execution.models.loading import OpenedModel
from service.telemetry.start_progress import StartProgress, Unwatched

log = structlog.get_logger(__name__)

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


class Devices(Protocol):
    """The GPUs of a machine, by number."""

    def count(self) -> int:
        """Return how many there are. Raises DeviceNotFoundError if this machine cannot have any."""

    def open(self, number: int) -> Runtime:
        """Return one of them. Raises DeviceNotFoundError if it is missing or does not work."""


def open_backend(
    settings: ServeSettings,
    opened: OpenedModel,
    devices: Devices | None = None,
    progress: StartProgress | None = None,
) -> Backend:
    """Return the backend that the settings ask for; ``devices`` are NVIDIA's if None. Raises as `serve.build` does."""
    runtime, progress = choose(settings.device, devices or NvidiaDevices()), progress or Unwatched()
    if runtime is None:
        return cpu_backend(settings, opened, progress)
    return gpu_backend(settings, opened, runtime, progress)


def choose(device: str, devices: Devices) -> Runtime | None:
    """Return the GPU that ``device`` (auto, cpu, cuda, cuda:N) means, None for the CPU. Raises DeviceNotFoundError."""
    if device == "cpu":
        return None
    if device != "auto":
        return devices.open(int(device.partition(":")[2] or 0))
    try:
        return _first_that_works(devices)
    except DeviceNotFoundError as error:
        if NVIDIA_DRIVER.exists():  # the machine has a GPU, so its owner would wonder
            log.warning("gpu_not_used", why=error.message)
        return None


def _first_that_works(devices: Devices) -> Runtime:
    problem = DeviceNotFoundError("there is no GPU")
    for number in range(devices.count()):
        try:
            return devices.open(number)
        except DeviceNotFoundError as error:
            problem = error
    raise problem
