"""Metrics of the device: what computes the model, and how its memory is used. They are set once, at the start."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

MEMORY_KINDS = ("weights", "kv", "workspace", "free")


class DeviceMetrics:
    """The device's metrics. Memory is 0 until `show_memory` is called."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "fastswitch_device_info",
            "The device that computes the model: always 1.",
            ("device", "name", "dtype"),
            registry=registry,
        )
        self._memory = Gauge(
            "fastswitch_device_memory_bytes",
            "The GPU's memory at the start by use, `free` included; 0 on the CPU.",
            ("kind",),
            registry=registry,
        )
        self.show_memory(dict.fromkeys(MEMORY_KINDS, 0))

    def show_device(self, device: str, name: str, dtype: str) -> None:
        """Set the labels of the device that computes the model."""
        self._info.labels(device, name, dtype).set(1)

    def show_memory(self, num_bytes: Mapping[str, int]) -> None:
        """Set the bytes of each kind, one of `MEMORY_KINDS`; raises ValueError for another."""
        if unknown := num_bytes.keys() - set(MEMORY_KINDS):
            raise ValueError(f"kinds of memory {sorted(unknown)}: there are {', '.join(MEMORY_KINDS)}")
        for kind, size in num_bytes.items():
            self._memory.labels(kind).set(size)
