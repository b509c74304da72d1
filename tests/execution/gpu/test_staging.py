"""Page-locked memory is not written while the device still reads it."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest

from service.core.messages.plan import Drawn
from service.execution.gpu.runtime import Stream
from service.execution.gpu.simulated.faults import Delays, Faults, Stall
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.gpu.staging import DeviceMemory, Entry, Ring
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.gpu.data_plane import PATIENCE_S, read
from tests.execution.gpu.steps import PLAIN, Device, Script, expected, script


def memory_on(runtime: SimulatedRuntime, stream: Stream, num_bytes: int) -> DeviceMemory:
    """Return a memory with a buffer of so many bytes for writes."""
    memory = DeviceMemory(runtime, stream)
    memory.write_through(runtime.pinned(num_bytes))
    return memory


def test_what_was_written_may_change_at_once() -> None:
    stall = Stall(lambda work: work.name == "copy-in")
    runtime = SimulatedRuntime(faults=stall)
    with runtime.bound():
        stream = runtime.stream()
        memory = memory_on(runtime, stream, 1000)
        array, values = memory.zeros((50,), np.float32), np.arange(50, dtype=np.float32)
        memory.write(values, array)
        values.fill(-1)
        stall.release()
        stream.record().wait()
    assert read(runtime, array).tolist() == list(range(50))


@pytest.mark.parametrize("num_bytes", [16, 104, 4000])
def test_more_than_there_is_room_for_is_written_in_turn(num_bytes: int) -> None:
    runtime = SimulatedRuntime(faults=Delays(0, 0.001))
    values = np.random.default_rng(0).standard_normal((3, 20, 7))
    with runtime.bound():
        stream = runtime.stream()
        memory = memory_on(runtime, stream, num_bytes)
        arrays = [memory.zeros(part.shape, part.dtype) for part in values]
        for part, array in zip(values, arrays, strict=True):
            memory.write(part, array)
        stream.record().wait()
    for part, array in zip(values, arrays, strict=True):
        np.testing.assert_array_equal(read(runtime, array), part)


def test_an_entry_is_free_when_its_event_has_passed_and_its_result_is_read() -> None:
    stall = Stall(lambda work: work.name == "fill")
    runtime = SimulatedRuntime(faults=stall)
    with runtime.bound():
        stream, ring = runtime.stream(), Ring(runtime, 1, (8, 8, 8))
        entry = ring.take()
        stream.fill(runtime.empty((4,), np.uint8), 0)
        entry.event = stream.record()
        assert not entry.is_free
        entry.is_read = True
        assert not entry.is_free
        stall.release()
        entry.event.wait()
        assert entry.is_free
        entry.is_read = False
        assert not entry.is_free


class SharedEntry:
    """A broken ring, which hands out its only entry while another step uses it."""

    def __init__(self, runtime: SimulatedRuntime, num_entries: int, sizes: tuple[int, int, int]) -> None:
        self._entry = Ring(runtime, 1, sizes).take()

    def take(self) -> Entry:
        return self._entry


class Gate(Faults):
    """Holds copies to the device until both steps have been launched."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()

    def begins(self, work: object) -> None:
        assert self.open.wait(PATIENCE_S)


def both_at_once(model: tuple[ModelConfig, ModelWeights], plays: Script) -> list[Sequence[Drawn]]:
    """Return the results of two steps that are launched before the first begins."""
    gate = Gate()
    device = Device(*model, faults=gate)
    gate.open.clear()
    results = [device.runner.launch(plan) for plan, _ in plays]
    gate.open.set()
    return [result().drawn for result in results]


def test_two_steps_under_way_have_inputs_of_their_own(tiny: tuple[ModelConfig, ModelWeights]) -> None:
    plays = script(*tiny, 2, PLAIN)
    assert both_at_once(tiny, plays) == expected(plays)


def test_without_the_rule_a_step_reads_the_inputs_of_the_next(
    tiny: tuple[ModelConfig, ModelWeights], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.execution.gpu.runner.Ring", SharedEntry)
    plays = script(*tiny, 2, PLAIN)
    assert both_at_once(tiny, plays)[0] != expected(plays)[0]
