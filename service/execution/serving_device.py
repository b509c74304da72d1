"""The device that computes a model, as people see it: in logs, metrics and the API."""

import platform
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServingDevice:
    """``device``: cpu, or cuda:N. ``dtype``: the element type of weights; ``as stored``: what the model's file has."""

    device: str
    name: str
    dtype: str

    def __str__(self) -> str:
        return f"{self.device} ({self.name}, {self.dtype})"


def cpu_device(dtype: str) -> ServingDevice:
    """Return this machine's processors; ``dtype`` as it was asked for."""
    return ServingDevice("cpu", platform.machine(), "as stored" if dtype == "auto" else dtype)
