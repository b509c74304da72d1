"""CUDA's errors become ours."""

import pytest

from kernels.cuda.matrices import CublasError
from service.errors import DeviceLostError, DeviceMemoryError
from service.execution.gpu.cuda.errors import translated, translating
from service.execution.gpu.runtime import CaptureError

GIB = 1 << 30


class CudaError(RuntimeError):
    """An error like CuPy's: a status and CUDA's words."""

    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError{status}: words")
        self.status = status


class FakeDevice:
    """The device of the errors, and the caller that gets them."""

    name = "cuda:1"
    error_types = (CudaError,)

    @property
    def device(self) -> "FakeDevice":
        return self

    def memory(self) -> tuple[int, int]:
        return 2 * GIB, 80 * GIB

    @translating
    def call(self, error: Exception | None) -> str:
        if error is not None:
            raise error
        return "done"


@pytest.mark.parametrize("status", [214, 700, 702, 715, 716, 719, 999])
def test_errors_that_fail_all_calls_are_a_lost_device(status: int) -> None:
    with pytest.raises(DeviceLostError, match=f"cuda:1 is lost: cudaError{status}: words") as caught:
        FakeDevice().call(CudaError(status))
    assert isinstance(caught.value.__cause__, CudaError)


def test_out_of_memory_reports_the_numbers() -> None:
    error = translated(CudaError(2), FakeDevice(), asked=3 * GIB)
    assert isinstance(error, DeviceMemoryError)
    assert error.message == "cuda:1: 3 GiB asked for, 2 GiB of 80 GiB free"
    with pytest.raises(DeviceMemoryError, match="cuda:1: memory asked for, 2 GiB of 80 GiB free"):
        FakeDevice().call(CudaError(2))


def test_cublas_out_of_memory_is_the_same_error() -> None:
    with pytest.raises(DeviceMemoryError, match="cuda:1: memory asked for, 2 GiB of 80 GiB free"):
        FakeDevice().call(CublasError("cublasGemmEx: ALLOC_FAILED (3)", 3))
    with pytest.raises(CublasError, match="EXECUTION_FAILED"):
        FakeDevice().call(CublasError("cublasGemmEx: EXECUTION_FAILED (13)", 13))


@pytest.mark.parametrize("status", [900, 901, 906, 908])
def test_a_refused_capture_is_a_capture_error(status: int) -> None:
    with pytest.raises(CaptureError, match=f"cudaError{status}"):
        FakeDevice().call(CudaError(status))


@pytest.mark.parametrize("error", [CudaError(1), CudaError(701), CudaError(909), RuntimeError("no status"), KeyError()])
def test_all_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught:
        FakeDevice().call(error)
    assert caught.value is error
    assert caught.value.__cause__ is None


def test_a_call_without_an_error_returns() -> None:
    assert FakeDevice().call(None) == "done"
