"""Compiles and assembles a kernel, and reads the result: no device is needed."""

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kernels.cuda.compiling import to_ptx
from kernels.cuda.kernel import Kernel


@dataclass(frozen=True)
class MachineCode:
    """What the tests check.

    products: instructions of tensor cores. calls: targets of calls that leave the kernel, such as divisions of 64 bits.
    """

    registers: int
    shared_bytes: int
    spilled: int
    loads_16: int
    stores_16: int
    products: int
    calls: tuple[str, ...]


@cache
def tool(name: str) -> Path:
    """Return a program of the CUDA toolkit that came as a package."""
    folders = find_spec("nvidia").submodule_search_locations
    return next(path for folder in folders for path in Path(folder).glob(f"*/bin/{name}"))


def cuda_header(name: str) -> str:
    """Return the text of a header that came with the compilers."""
    folders = find_spec("nvidia").submodule_search_locations
    return next(path for folder in folders for path in Path(folder).glob(f"*/include/{name}")).read_text()


def assemble(kernel: Kernel, architecture: tuple[int, int], folder: Path) -> MachineCode:
    """Compile and assemble a kernel. Raises CalledProcessError, with the assembler's words, if it refuses."""
    ptx, cubin = folder / "kernel.ptx", folder / "kernel.cubin"
    ptx.write_text(to_ptx(kernel, architecture))
    report = _run(tool("ptxas"), "-v", f"-arch=sm_{architecture[0]}{architecture[1]}", "-o", cubin, ptx).stderr
    listing = _run(tool("nvdisasm"), "-c", cubin).stdout
    targets = re.findall(r"\bCALL\S*\s+(.*?)\s*;", listing)
    return MachineCode(
        registers=_number(r"Used (\d+) registers", report),
        shared_bytes=_number(r"(\d+) bytes smem", report),
        spilled=len(re.findall(r"\b(?:LDL|STL)\b", listing)),
        loads_16=len(re.findall(r"\bLDG\S*\.128", listing)),
        stores_16=len(re.findall(r"\bSTG\S*\.128", listing)),
        products=len(re.findall(r"\bHMMA\S*\.F32\b", listing)),
        # ptxas makes calls of some jumps inside a kernel: those go to its own labels
        calls=tuple(target for target in targets if not target.startswith("`(.L_x_")),
    )


def _run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
