"""What a stream does around CuPy's calls, on a device that only records them."""

import gc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from service.execution.gpu.cuda.stream import CuPyStream
from service.execution.gpu.runtime import CaptureError


class CudaError(RuntimeError):
    """An error like CuPy's."""

    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError{status}")
        self.status = status


class Noted:
    """CuPy's stream, and the graph that it captures."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def begin_capture(self, mode: str) -> None:
        self.calls.append(f"begin {mode}")

    def end_capture(self) -> "Noted":
        self.calls.append("end")
        return self

    def upload(self, stream: "Noted") -> None:
        assert stream is self
        self.calls.append("upload")


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def stream(noted: Noted) -> CuPyStream:
    cuda = SimpleNamespace(Stream=lambda **_: noted)
    runtime = SimpleNamespace(streamCaptureModeThreadLocal="thread-local")
    device: Any = SimpleNamespace(name="cuda:0", cuda=cuda, runtime=runtime, error_types=(CudaError,))
    return CuPyStream(device, urgent=True)


def raising(error: Exception) -> Callable[[], None]:
    def submit() -> None:
        raise error

    return submit


def test_a_graph_is_on_the_device_before_its_first_replay(stream: CuPyStream, noted: Noted) -> None:
    assert stream.capture(lambda: noted.calls.append("work")) is noted
    assert noted.calls == ["begin thread-local", "work", "end", "upload"]


def test_no_garbage_is_collected_in_a_capture(stream: CuPyStream) -> None:
    enabled: list[bool] = []
    stream.capture(lambda: enabled.append(gc.isenabled()))
    assert (enabled, gc.isenabled()) == ([False], True)


@pytest.mark.parametrize("error", [CudaError(900), RuntimeError("cublasGemmEx: EXECUTION_FAILED (13)")])
def test_a_librarys_refusal_in_a_capture_is_a_capture_error(
    stream: CuPyStream, noted: Noted, error: RuntimeError
) -> None:
    with pytest.raises(CaptureError, match=str(error).partition("(")[0]):
        stream.capture(raising(error))
    assert noted.calls == ["begin thread-local", "end"]
    assert gc.isenabled()


def test_a_mistake_of_ours_stays_what_it_is(stream: CuPyStream, noted: Noted) -> None:
    with pytest.raises(ValueError, match="not contiguous"):
        stream.capture(raising(ValueError("not contiguous")))
    assert noted.calls[-1] == "end"
