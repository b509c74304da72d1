"""CUDA's streams, events and graphs through CuPy. Every call names its stream: none uses CuPy's current one.

By the source of CuPy 14.2, `memcpyAsync`, `eventSynchronize` and launches release the interpreter's lock.
"""

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from service.execution.gpu.cuda.device import CudaDevice
from service.execution.gpu.cuda.errors import NOT_READY, translated, translating
from service.execution.gpu.runtime import CaptureError


class CuPyEvent:
    """A `runtime.Event`. Waits sleep: a thread that spins would take a processor from the others."""

    def __init__(self, device: CudaDevice, event: Any) -> None:
        self.device, self.event = device, event

    @property
    @translating
    def done(self) -> bool:
        """See `runtime.Event`."""
        status = self.device.runtime.eventQuery(self.event.ptr)  # CuPy's own `done` reads an error as "not yet"
        if status not in (0, NOT_READY):
            raise self.device.runtime.CUDARuntimeError(status)
        return bool(status == 0)

    @translating
    def wait(self) -> None:
        """See `runtime.Event`.

        Binds the thread, because it may be the last to hold the event: destroying that elsewhere would make a context.
        """
        self.device.handle.use()
        self.event.synchronize()

    @translating
    def seconds_since(self, earlier: Any) -> float:
        """See `runtime.Event`."""
        milliseconds: float = self.device.runtime.eventElapsedTime(earlier.event.ptr, self.event.ptr)
        return milliseconds / 1e3


class CuPyStream:
    """A `runtime.Stream`. Its graphs are CuPy's."""

    def __init__(self, device: CudaDevice, *, urgent: bool) -> None:
        self.device = device
        self.stream = device.cuda.Stream(non_blocking=True, priority=-1 if urgent else 0)

    @translating
    def copy(self, source: Any, destination: Any) -> None:
        """See `runtime.Stream`. Pageable memory is not refused: the call would wait, and be slow."""
        if source.nbytes != destination.nbytes:
            raise ValueError(f"a copy of {source.nbytes} bytes into {destination.nbytes}")
        runtime = self.device.runtime
        kind = {
            (True, False): runtime.memcpyHostToDevice,
            (False, True): runtime.memcpyDeviceToHost,
            (False, False): runtime.memcpyDeviceToDevice,
            (True, True): runtime.memcpyHostToHost,
        }[isinstance(source, np.ndarray), isinstance(destination, np.ndarray)]
        runtime.memcpyAsync(_address(destination), _address(source), source.nbytes, kind, self.stream.ptr)

    @translating
    def fill(self, destination: Any, byte: int) -> None:
        """See `runtime.Stream`."""
        self.device.runtime.memsetAsync(_address(destination), byte, destination.nbytes, self.stream.ptr)

    @translating
    def record(self, *, timed: bool = False) -> CuPyEvent:
        """See `runtime.Stream`."""
        event = self.device.cuda.Event(block=True, disable_timing=not timed)
        event.record(self.stream)
        return CuPyEvent(self.device, event)

    @translating
    def wait(self, event: Any) -> None:
        """See `runtime.Stream`; ``event`` is a `CuPyEvent`."""
        self.stream.wait_event(event.event)

    @translating
    def capture(self, submit: Callable[[], None]) -> Any:
        """See `runtime.Stream`. Kernels must have been launched before, because loading one cannot be captured.

        Only this thread is kept from calls that cannot be captured; other threads continue to copy. The graph is
        uploaded at once, not with its first replay.
        """
        with _no_garbage_collection():
            self.stream.begin_capture(self.device.runtime.streamCaptureModeThreadLocal)
            try:
                submit()
            except BaseException as error:
                with contextlib.suppress(RuntimeError):  # report what spoiled the capture, not that it is spoiled
                    self.stream.end_capture()
                if isinstance(error, RuntimeError) and translated(error, self.device) is error:
                    raise CaptureError(str(error)) from error  # cuBLAS, for one, has only a number for it
                raise
            graph = self.stream.end_capture()
        graph.upload(self.stream)
        return graph

    @translating
    def replay(self, graph: Any) -> None:
        """See `runtime.Stream`."""
        graph.launch(self.stream)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the collector from freeing memory, which would spoil a capture."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _address(array: Any) -> int:
    """Return the address of a contiguous array of the device or the host. Raises ValueError."""
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of shape {array.shape}, strides {array.strides} is not contiguous")
    address: int = array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr
    return address
