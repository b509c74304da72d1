"""What the CuPy runtime takes for granted of compiled kernels and of CUDA's errors: no device is asked."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from machine_code import cuda_header

from kernels.cuda import logits, prefill
from kernels.cuda.compiling import to_ptx
from kernels.cuda.elements import BFLOAT16
from kernels.cuda.kernel import Kernel
from service.execution.gpu.cuda_errors import CAPTURE, LOST, NOT_READY, OUT_OF_MEMORY
from service.execution.gpu.cupy_kernels import converter, entry_of

ERROR = re.compile(r"/\*\*((?:(?!\*/).)*)\*/\s*cudaError(\w+)\s*=\s*(\d+)", re.DOTALL)
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
    """CUDA's statuses: name, comment."""
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
