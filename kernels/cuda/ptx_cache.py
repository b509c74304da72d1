"""PTX on disk: a start compiles only kernels that it has not seen.

A file's name says all that decides what is in it: sources, compilers, architecture, kernel. The driver keeps the
machine code that it makes of PTX in a cache of its own.
"""

import hashlib
import os
import sys
from functools import cache
from importlib.metadata import version
from pathlib import Path

from numba.cuda.core import config
from numba.cuda.cudadrv.nvvm import NVVM

from kernels.cuda.compiling import to_ptx
from kernels.cuda.kernel import Kernel


def cached_ptx(kernel: Kernel, architecture: tuple[int, int], folder: Path) -> str:
    """`to_ptx`, from ``folder`` if it is there. A folder that cannot be written to only costs time."""
    path = folder / f"{kernel.name}-sm_{architecture[0]}{architecture[1]}-{fingerprint()}.ptx"
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        text = to_ptx(kernel, architecture)
        _keep(path, text)
        return text


def default_folder() -> Path:
    """Beside Numba's own cache if that was given a place, else in the user's."""
    return Path(config.CACHE_DIR or Path.home() / ".cache" / "fastswitch") / "ptx"


@cache
def fingerprint() -> str:
    """Of the kernels' sources and of what compiles them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    for package in ("numba", "numba-cuda", "cuda-bindings"):
        digest.update(f"{package} {version(package)}".encode())
    digest.update(f"NVVM {NVVM().get_version()} {sys.version}".encode())
    return digest.hexdigest()[:16]


def _keep(path: Path, text: str) -> None:
    """Whole or not at all, whoever else writes it at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = path.with_suffix(f".{os.getpid()}")
        mine.write_text(text, encoding="ascii")
        mine.replace(path)
    except OSError:  # a read-only image, a full disk
        return
