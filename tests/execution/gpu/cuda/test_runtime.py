"""Opening a GPU on a machine without one reports what is missing; the rest of the runtime cannot run here."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from service.errors import DeviceNotFoundError
from service.execution.gpu.cuda.device import device_count
from service.execution.gpu.cuda.kernels import entry_of
from service.execution.gpu.cuda.runtime import CuPyRuntime

ROOT = Path(__file__).parents[4]

without_cupy = pytest.mark.skipif(find_spec("cupy") is not None, reason="CuPy is installed")


@without_cupy
@pytest.mark.parametrize("ask", [device_count, CuPyRuntime, lambda: CuPyRuntime(3)])
def test_without_cupy_the_error_says_what_to_install(ask: object) -> None:
    with pytest.raises(DeviceNotFoundError, match=r"no GPU without CuPy: install fastswitch\[gpu\]"):
        ask()  # type: ignore[operator]


def test_importing_it_imports_neither_cupy_nor_numba_cuda() -> None:
    program = (
        "import sys; import service.execution.gpu.cuda.runtime;"
        "print([name for name in sys.modules if name.split('.')[0] == 'cupy' or name.startswith('numba.cuda.core')])"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_entry_of_a_kernel_is_found_in_its_ptx() -> None:
    ptx = ".version 9.0\n\t// .globl\t_Zkernel$1\n.visible .entry _Zkernel$1(\n\t.param .u64 _Zkernel$1_param_0\n)\n"
    assert entry_of(ptx) == "_Zkernel$1"
