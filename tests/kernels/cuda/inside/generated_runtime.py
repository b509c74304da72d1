"""What the CuPy runtime assumes of compiled kernels, CUDA's errors and CuPy itself: no device is needed."""

import re
from pathlib import Path
from types import SimpleNamespace

import cupy
import ml_dtypes
import numpy as np
import pytest
from machine_code import cuda_header

from kernels.cuda import logits, prefill
from kernels.cuda.compiling import to_ptx
from kernels.cuda.elements import BFLOAT16
from kernels.cuda.kernel import Kernel
from service.errors import DeviceNotFoundError
from service.execution.gpu.cuda import device as cuda_device
from service.execution.gpu.cuda.errors import CAPTURE, LOST, NOT_READY, OUT_OF_MEMORY
from service.execution.gpu.cuda.kernels import converter, entry_of
from service.execution.gpu.cuda.runtime import CuPyRuntime
from service.execution.gpu.cuda.stream import _address

ERROR = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s*cudaError(\w+)\s*=\s*(\d+)", re.DOTALL)
ASKED = re.compile(r"(?<![\w`.])(?:self\.)?(?:device\.)?(?:cuda\.)?(cupy|cuda|runtime)\.([A-Za-z]\w*)")
OF_THE_DEVICE = {"ECCUncorrectable", "NvlinkUncorrectable", "ContextIsDestroyed", "Unknown"}


@pytest.mark.parametrize("kernel", [logits.penalize(), prefill.chunks(BFLOAT16, 64, 4)], ids=lambda each: each.name)
def test_arguments_have_the_sizes_of_the_parameters(kernel: Kernel) -> None:
    ptx = to_ptx(kernel, (9, 0))
    parameters = re.findall(rf"\.param \.(\w)(\d+) \w*{re.escape(entry_of(ptx))}_param_\d+", ptx)
    array = SimpleNamespace(data=SimpleNamespace(ptr=1 << 40))
    values = [converter(kind)(array if hasattr(kind, "dtype") else 1) for kind in kernel.parameters]
    assert [int(bits) for _, bits in parameters] == [8 * value.dtype.itemsize for value in values]
    assert [kind == "f" for kind, _ in parameters] == [value.dtype.kind == "f" for value in values]
    assert {int(value) for value in values if value.dtype == np.uint64} == {1 << 40}


def errors() -> dict[int, tuple[str, str]]:
    """Return the name and the comment of each of CUDA's statuses."""
    text = cuda_header("driver_types.h")
    found = ERROR.findall(text[text.index("cudaSuccess") :])
    return {int(status): (name, " ".join(comment.replace("*", " ").split())) for comment, name, status in found}


def test_devices_are_lost_by_what_cuda_says_no_process_survives() -> None:
    fatal = {status for status, (name, comment) in errors().items() if "must be terminated" in comment}
    named = {status for status, (name, _) in errors().items() if name in OF_THE_DEVICE}
    assert len(fatal) > 8
    assert fatal | named == LOST


def test_other_statuses_are_those_of_the_header() -> None:
    assert errors()[NOT_READY][0] == "NotReady"
    assert errors()[OUT_OF_MEMORY][0] == "MemoryAllocation"
    captures = {status for status, (name, _) in errors().items() if name.startswith(("StreamCapture", "CapturedEvent"))}
    assert captures == set(CAPTURE)


def asked_of_cupy() -> set[tuple[str, str]]:
    """Return the names that our sources take from CuPy, with the module of each."""
    folder = Path(cuda_device.__file__).parent
    return {(where, name) for path in folder.glob("*.py") for where, name in ASKED.findall(path.read_text())}


def test_cupy_has_what_it_is_asked_for() -> None:
    modules = {"cupy": cupy, "cuda": cupy.cuda, "runtime": cupy.cuda.runtime}
    asked = asked_of_cupy()
    assert {("runtime", "memcpyAsync"), ("cuda", "PinnedMemoryPointer"), ("cupy", "ndarray")} <= asked
    assert [(where, name) for where, name in asked if not hasattr(modules[where], name)] == []
    error = cupy.cuda.runtime.CUDARuntimeError(700)
    assert (error.status, isinstance(error, RuntimeError)) == (700, True)
    assert issubclass(cupy.cuda.driver.CUDADriverError, RuntimeError)


@pytest.mark.parametrize("dtype", ["float32", "float16", ml_dtypes.bfloat16])
def test_parts_of_arrays_are_where_they_are_taken_to_be(dtype: object) -> None:
    """Slices, views and reshapes are addresses; nothing is copied."""
    start, size = 1 << 40, np.dtype(dtype).itemsize
    memory = cupy.cuda.UnownedMemory(start, 6 * 8 * 4 * size, None, device_id=0)
    array = cupy.ndarray((6, 8, 4), np.dtype(dtype), cupy.cuda.MemoryPointer(memory, 0))
    assert (array.dtype, array.nbytes, array.flags.c_contiguous) == (np.dtype(dtype), 192 * size, True)
    assert _address(array[2:5]) == start + 64 * size
    assert _address(array[2:5].reshape(-1).view(np.uint8)[16:]) == start + 64 * size + 16
    assert _address(array[3, 1]) == start + (3 * 32 + 4) * size
    assert array[:, 1:3].strides == array.strides
    assert array[:0].reshape(-1).size == 0
    with pytest.raises(ValueError, match="not contiguous"):
        _address(array[:, 1:3])


@pytest.mark.parametrize("ask", [cuda_device.device_count, CuPyRuntime])
def test_without_a_driver_the_error_is_one_line(ask: object, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise cupy.cuda.runtime.CUDARuntimeError(35)

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", refuse)  # whatever this machine has
    with pytest.raises(DeviceNotFoundError, match=r"^no NVIDIA GPU can be used: .*driver[^\n]*$"):
        ask()
