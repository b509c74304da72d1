"""Streams, events and graphs of CUDA through CuPy. Every call names its stream: none uses CuPy's current one.

Read against CuPy 14.2: `memcpyAsync`, `eventSynchronize` and launches let the interpreter's lock go.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np

from service.execution.gpu.cuda_device import CudaDevice
from service.execution.gpu.cuda_errors import NOT_READY, translating


class CuPyEvent:
    """Waits sleep rather than spin: a thread that spins is a processor less for the others."""

    def __init__(self, device: CudaDevice, event: Any) -> None:
        self.device, self.event = device, event

    @property
    @translating
    def done(self) -> bool:
        """See `runtime.Event`."""
        status = self.device.runtime.eventQuery(self.event.ptr)  # CuPy's own `done` takes an error for "not yet"
        if status not in (0, NOT_READY):
            raise self.device.runtime.CUDARuntimeError(status)
        return bool(status == 0)

    @translating
    def wait(self) -> None:
        """See `runtime.Event`."""
        self.event.synchronize()

    @translating
    def seconds_since(self, earlier: Any) -> float:
        """See `runtime.Event`."""
        milliseconds: float = self.device.runtime.eventElapsedTime(earlier.event.ptr, self.event.ptr)
        return milliseconds / 1e3


class CuPyStream:
    """See `runtime.Stream`. Its graphs are CuPy's."""

    def __init__(self, device: CudaDevice, *, urgent: bool) -> None:
        self.device = device
        self.stream = device.cuda.Stream(non_blocking=True, priority=-1 if urgent else 0)

    @translating
    def copy(self, source: Any, destination: Any) -> None:
        """See `runtime.Stream`. Pageable memory is not noticed: the call would wait, and be slow."""
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
        """See `runtime.Stream`; a `CuPyEvent`."""
        self.stream.wait_event(event.event)

    @translating
    def capture(self, submit: Callable[[], None]) -> Any:
        """See `runtime.Stream`. Kernels must have been launched before: loading one cannot be captured.

        This thread alone is kept from what cannot be captured; other threads go on with their copies.
        """
        self.stream.begin_capture(self.device.runtime.streamCaptureModeThreadLocal)
        try:
            submit()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # what spoiled the capture is told, not that it is spoiled
                self.stream.end_capture()
            raise
        return self.stream.end_capture()

    @translating
    def replay(self, graph: Any) -> None:
        """See `runtime.Stream`."""
        graph.launch(self.stream)


def _address(array: Any) -> int:
    """Of the first byte of a contiguous array, on either side. Raises ValueError."""
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of shape {array.shape}, strides {array.strides} is not contiguous")
    address: int = array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else array.data.ptr
    return address
