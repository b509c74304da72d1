"""The simulated device keeps CUDA's order and no other, and raises where CUDA would go wrong in silence."""

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from kernels import cpu
from service.errors import DeviceLostError, DeviceMemoryError, PinnedMemoryError
from service.execution.gpu.runtime import CaptureError
from service.execution.gpu.simulated.array import DeviceArray
from service.execution.gpu.simulated.faults import Delays, Failing, Faults, Several, Stall, Work, losing_device
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from tests.execution.gpu.data_plane import PATIENCE_S, pinned, read, write

NUMBERS = np.arange(24, dtype=np.float32).reshape(4, 6)


class BoundDevice(SimulatedRuntime):
    """A runtime bound to this thread, with an array and two streams."""

    def __init__(self, faults: Faults | None = None) -> None:
        super().__init__(faults=faults)
        with self.bound():
            self.one, self.two = self.stream(), self.stream()
            self.array = self.zeros(NUMBERS.shape, np.float32)
            self.host = pinned(self, NUMBERS)


MakeDevice = Callable[..., BoundDevice]


@pytest.fixture
def make() -> Iterator[MakeDevice]:
    """Makes devices that are bound until the test is over."""
    bound = []

    def make_device(faults: Faults | None = None) -> BoundDevice:
        device = BoundDevice(faults)
        bound.append(device.bound())
        bound[-1].__enter__()
        return device

    yield make_device
    for each in bound:
        each.__exit__(None, None, None)


def on_stream(number: int) -> Callable[[Work], bool]:
    return lambda work: work.stream == number


def test_work_of_a_stream_is_done_in_its_order(make: MakeDevice) -> None:
    device = make(Delays(seed=1, longest_s=0.002))
    hosts = [pinned(device, NUMBERS + number) for number in range(20)]
    out = device.pinned(device.array.nbytes).view(np.float32)
    for host in hosts:
        device.one.copy(host, device.array)
    device.one.copy(device.array, out)
    device.one.record().wait()
    assert np.array_equal(out, (NUMBERS + 19).reshape(-1))


def test_streams_do_not_wait_for_each_other(make: MakeDevice) -> None:
    stall = Stall(on_stream(0))
    device = make(stall)
    device.one.copy(device.host, device.array)
    held = device.one.record()
    device.two.record().wait()
    assert not held.done
    stall.release()
    held.wait()
    assert held.done


@pytest.mark.parametrize("ordered", [True, False])
def test_a_stream_waits_for_an_events_work_and_for_no_other(make: MakeDevice, ordered: bool) -> None:
    stall = Stall(on_stream(0))
    device = make(stall)
    device.one.copy(device.host, device.array)
    written = device.one.record()
    if ordered:
        device.two.wait(written)
    out = device.pinned(device.array.nbytes).view(np.float32)
    device.two.copy(device.array, out)
    copied = device.two.record()
    if not ordered:
        copied.wait()
    stall.release()
    copied.wait()
    assert np.array_equal(out, NUMBERS.reshape(-1)) is ordered


def test_a_copy_reads_the_hosts_memory_when_its_turn_comes(make: MakeDevice) -> None:
    stall = Stall(on_stream(0))
    device = make(stall)
    device.one.copy(device.host, device.array)
    device.host[:] = -1
    stall.release()
    device.one.record().wait()
    assert (read(device, device.array) == -1).all()


def test_filling_with_ones_makes_nan(make: MakeDevice) -> None:
    device = make()
    device.one.fill(device.array[1:3], 0xFF)
    device.one.record().wait()
    assert np.isnan(read(device, device.array)).all(axis=1).tolist() == [False, True, True, False]


def test_new_memory_holds_no_numbers_unless_it_is_zeroed(make: MakeDevice) -> None:
    device = make()
    assert np.isnan(read(device, device.empty((3,), np.float32))).all()
    assert (read(device, device.empty((3,), np.int32)) == -1).all()
    assert (read(device, device.zeros((3,), np.float32)) == 0).all()


def test_a_replayed_graph_runs_on_the_contents_of_that_time(make: MakeDevice) -> None:
    device = make()
    graph = device.one.capture(lambda: device.one.copy(device.host, device.array))
    device.one.record().wait()
    assert (read(device, device.array) == 0).all()
    for value in (1, 2):
        device.host[:] = value
        device.one.replay(graph)
        device.one.record().wait()
        assert (read(device, device.array) == value).all()


@pytest.mark.parametrize(
    "submit",
    [
        lambda device: device.one.record(),
        lambda device: device.one.wait(device.two.record()),
        lambda device: device.zeros((1,), np.float32),
        lambda device: device.pinned(1),
    ],
)
def test_what_cannot_be_captured_is_refused_and_the_stream_goes_on(
    make: MakeDevice, submit: Callable[[BoundDevice], object]
) -> None:
    device = make()
    with pytest.raises(CaptureError):
        device.one.capture(lambda: submit(device))
    device.one.copy(device.host, device.array)
    device.one.record().wait()
    assert np.array_equal(read(device, device.array), NUMBERS)


def test_ops_are_the_cpu_kernels_to_the_bit(make: MakeDevice) -> None:
    device = make()
    weight, out = device.empty((6,), np.float32), device.empty(NUMBERS.shape, np.float32)
    write(device, weight, NUMBERS[1])
    write(device, device.array, NUMBERS)
    device.ops(device.one).rms_norm(device.array, weight, 1e-5, out)
    device.one.record().wait()
    expected = np.empty_like(NUMBERS)
    cpu.rms_norm(NUMBERS, NUMBERS[1], 1e-5, expected)
    assert np.array_equal(read(device, out), expected)


def test_ops_take_no_arrays_of_the_host(make: MakeDevice) -> None:
    device = make()
    with pytest.raises(TypeError, match="an array of the host"):
        device.ops(device.one).silu_mul(device.host, device.array)


def test_the_host_cannot_read_the_device(make: MakeDevice) -> None:
    with pytest.raises(TypeError, match="copy it to pinned memory"):
        np.asarray(make().array)


def test_arrays_of_the_device_are_sliced_and_reshaped_like_numpys() -> None:
    memory = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    array = DeviceArray(memory)
    assert (len(array), array.shape, array.size, array.ndim, array.nbytes) == (2, (2, 3, 4), 24, 3, 96)
    assert array[1, :, 2:].shape == memory[1, :, 2:].shape
    assert array[1, 2, 3].shape == ()
    assert array[..., 0].shape == (2, 3)
    assert array.reshape(6, -1).shape == array.reshape((6, 4)).shape == (6, 4)
    assert array.view(np.uint8).shape == (2, 3, 16)
    with pytest.raises(ValueError, match="copy"):
        array[:, :, :2].reshape(-1)
    with pytest.raises(TypeError, match="indexed by integers and slices"):
        array[np.array([0])]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda device: NUMBERS.copy(), "not pinned"),
        (lambda device: device.host[:2], "48 bytes into 96"),
        (lambda device: device.zeros((6, 4), np.float32)[:, :2], "not contiguous"),
    ],
)
def test_copies_are_of_contiguous_pinned_or_device_memory_of_one_size(
    make: MakeDevice, source: Callable[[BoundDevice], np.ndarray], message: str
) -> None:
    device = make()
    with pytest.raises(ValueError, match=message):
        device.one.copy(source(device), device.array)


def test_memory_is_counted_and_running_out_reports_the_numbers() -> None:
    runtime = SimulatedRuntime(total_bytes=3 << 20)
    with runtime.bound():
        runtime.empty((1 << 20,), np.uint8)
        assert runtime.free_bytes() == 2 << 20
        with pytest.raises(DeviceMemoryError, match=r"simulated:0: 2\.5 MiB asked for, 2 MiB of 3 MiB free"):
            runtime.zeros((5 << 19,), np.uint8)
        assert runtime.free_bytes() == 2 << 20


def test_pinning_can_end_after_a_probe_that_succeeded() -> None:
    runtime = SimulatedRuntime(pinnable_bytes=1 << 20)
    with runtime.bound():
        assert runtime.pinned(1000).nbytes == 1000
        with pytest.raises(PinnedMemoryError, match=r"1 MiB asked for, 1000 bytes pinned so far"):
            runtime.pinned(1 << 20)


def test_a_thread_that_has_not_bound_the_device_is_refused() -> None:
    runtime = SimulatedRuntime()
    with runtime.bound():
        stream, array = runtime.stream(), runtime.zeros((1,), np.uint8)
    for call in (runtime.stream, stream.record, lambda: stream.fill(array, 0), lambda: runtime.pinned(1)):
        with pytest.raises(RuntimeError, match="outside of `bound`"):
            call()


def test_time_passes_from_one_event_to_another_that_waits_for_it(make: MakeDevice) -> None:
    device = make()
    first = device.one.record(timed=True)
    device.two.wait(first)
    second = device.two.record(timed=True)
    second.wait()
    assert second.seconds_since(first) > 0
    assert first.seconds_since(second) == -second.seconds_since(first)


def test_events_that_were_not_timed_or_have_not_passed_have_no_time(make: MakeDevice) -> None:
    stall = Stall(on_stream(1))
    device = make(stall)
    timed, untimed = device.one.record(timed=True), device.one.record()
    device.two.copy(device.host, device.array)
    later = device.two.record(timed=True)
    untimed.wait()
    for event in (untimed, later):
        with pytest.raises(ValueError, match="timed and have passed"):
            event.seconds_since(timed)
    stall.release()


def test_a_failure_is_raised_by_the_next_event_and_by_no_later_one(make: MakeDevice) -> None:
    device = make(Failing(lambda work: work.name == "copy-in", last=1))
    device.one.copy(device.host, device.array)
    device.one.fill(device.array, 0xFF)  # skipped: it comes after the failure
    failed = device.one.record()
    device.one.fill(device.array[:1], 0xFF)
    fine = device.one.record()
    with pytest.raises(RuntimeError, match=r"injected: .*copy-in"):
        failed.wait()
    fine.wait()
    assert np.isnan(read(device, device.array)).sum() == 6


def test_a_failure_goes_with_its_event_to_the_stream_that_waits_for_it(make: MakeDevice) -> None:
    device = make(Failing(lambda work: work.name == "copy-in"))
    device.one.copy(device.host, device.array)
    device.two.wait(device.one.record())
    device.two.fill(device.array, 0xFF)
    with pytest.raises(RuntimeError, match="injected"):
        device.two.record().wait()
    assert not np.isnan(read(device, device.array)).any()


def test_work_that_is_refused_is_not_queued(make: MakeDevice) -> None:
    device = make(Failing(lambda work: work.name == "fill", first=1, last=2, refused=True))
    device.one.fill(device.array[0], 0xFF)
    with pytest.raises(RuntimeError, match="injected"):
        device.one.fill(device.array[1], 0xFF)
    device.one.fill(device.array[2], 0xFF)
    device.one.record().wait()
    assert np.isnan(read(device, device.array)).any(axis=1).tolist() == [True, False, True, False]


def test_all_faults_of_several_work(make: MakeDevice) -> None:
    stall = Stall(on_stream(0))
    device = make(Several(stall, Failing(on_stream(1))))
    device.one.fill(device.array, 0)
    device.two.fill(device.array, 0)
    assert stall.reached(PATIENCE_S)
    with pytest.raises(RuntimeError, match="injected"):
        device.two.record().wait()
    stall.release()
    device.one.record().wait()


def calls(device: BoundDevice) -> list[Callable[[], object]]:
    event = device.one.record()
    return [
        event.wait,
        lambda: event.done,
        device.free_bytes,
        device.stream,
        device.one.record,
        lambda: device.one.wait(event),
        lambda: device.one.copy(device.host, device.array),
        lambda: device.zeros((1,), np.uint8),
        lambda: device.pinned(1),
        lambda: device.one.capture(lambda: None),
    ]


def test_nothing_works_on_a_lost_device(make: MakeDevice) -> None:
    device = make()
    every_call = calls(device)
    device.lose("fell off the bus")
    for call in every_call:
        with pytest.raises(DeviceLostError, match="fell off the bus"):
            call()


def test_the_loss_of_a_device_ends_the_waits_under_way(make: MakeDevice) -> None:
    stall = Stall(on_stream(0))
    device = make(stall)
    device.one.fill(device.array, 0)
    held, ends = device.one.record(), []

    def wait() -> None:
        try:
            held.wait()
        except DeviceLostError as error:
            ends.append(error.message)

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert stall.reached(PATIENCE_S)
    device.lose("gone")
    waiting.join(PATIENCE_S)
    assert ends == ["gone"]
    stall.release()


def test_a_device_can_be_lost_at_a_piece_of_work(make: MakeDevice) -> None:
    device = make(losing_device(lambda work: work.name == "fill", at=1))
    for _ in range(3):
        device.one.fill(device.array, 0)
    with pytest.raises(DeviceLostError, match="number=1"):
        device.one.record().wait()


def test_the_thread_of_a_stream_ends_with_it() -> None:
    runtime = SimulatedRuntime()
    before = set(threading.enumerate())
    with runtime.bound():
        stream = runtime.stream()
    (thread,) = set(threading.enumerate()) - before
    del stream
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
