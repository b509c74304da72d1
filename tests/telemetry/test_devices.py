"""The device's own metrics, as they are exposed."""

import pytest
from prometheus_client import CollectorRegistry

from service.telemetry.devices import MEMORY_KINDS, DeviceMetrics


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def memory(registry: CollectorRegistry, kind: str) -> float | None:
    return registry.get_sample_value("fastswitch_device_memory_bytes", {"kind": kind})


def test_every_kind_of_memory_is_there_before_anything_is_taken(registry):
    DeviceMetrics(registry)
    assert {memory(registry, kind) for kind in MEMORY_KINDS} == {0}


def test_memory_is_shown_by_what_took_it(registry):
    DeviceMetrics(registry).show_memory({"weights": 16 << 30, "kv": 50 << 30, "workspace": 1 << 30, "free": 5 << 30})
    assert memory(registry, "kv") == 50 << 30
    assert memory(registry, "free") == 5 << 30


def test_what_computes_is_shown_by_labels(registry):
    DeviceMetrics(registry).show_device("cuda:0", "NVIDIA H100", "bfloat16")
    labels = {"device": "cuda:0", "name": "NVIDIA H100", "dtype": "bfloat16"}
    assert registry.get_sample_value("fastswitch_device_info", labels) == 1


def test_a_kind_that_no_panel_knows_is_refused(registry):
    with pytest.raises(ValueError, match="graphs"):
        DeviceMetrics(registry).show_memory({"graphs": 1})
