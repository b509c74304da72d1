"""The device that computes a model, as people see it: in logs, metrics and the API."""

import platform
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServingDevice:
    """``device``: cpu, or cuda:N. ``dtype``: the element type of weights, activations and KV."""

    device: str
    name: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.device} ({self.name}, {self.dtype})"


def cpu_device() -> ServingDevice:
    """Return this machine's processors."""
    return ServingDevice("cpu", platform.machine(), "float32")
