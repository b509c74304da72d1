"""What Prometheus sees of the device itself. Told once, at start: nothing of it changes while the server runs."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Gauge

MEMORY_KINDS = ("weights", "kv", "workspace", "free")


class DeviceMetrics:
    """Memory is zeros until somebody tells."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._info = Gauge(
            "fastswitch_device_info",
            "What computes the model: always 1.",
            ("device", "name", "dtype"),
            registry=registry,
        )
        self._memory = Gauge(
            "fastswitch_device_memory_bytes",
            "The GPU's memory at start by what took it, and what nobody has taken; 0 on the CPU.",
            ("kind",),
            registry=registry,
        )
        self.show_memory(dict.fromkeys(MEMORY_KINDS, 0))

    def show_device(self, device: str, name: str, dtype: str) -> None:
        """What computes the model."""
        self._info.labels(device, name, dtype).set(1)

    def show_memory(self, num_bytes: Mapping[str, int]) -> None:
        """Bytes by kind, of `MEMORY_KINDS`; raises ValueError for another."""
        if unknown := num_bytes.keys() - set(MEMORY_KINDS):
            raise ValueError(f"kinds of memory {sorted(unknown)}: there are {', '.join(MEMORY_KINDS)}")
        for kind, size in num_bytes.items():
            self._memory.labels(kind).set(size)
