"""PTX on disk: a start compiles only the kernels that are not there.

A file's name contains all that decides its text: sources, compilers, architecture, kernel. The driver keeps the
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
    """Return `to_ptx`'s text, from ``folder`` if it is there. A folder that cannot be written to only costs time."""
    path = folder / f"{kernel.name}-sm_{architecture[0]}{architecture[1]}-{fingerprint()}.ptx"
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        text = to_ptx(kernel, architecture)
        _keep(path, text)
        return text


def default_folder() -> Path:
    """Return a folder beside Numba's own cache if that is configured, else in the user's."""
    return Path(config.CACHE_DIR or Path.home() / ".cache" / "fastswitch") / "ptx"


@cache
def fingerprint() -> str:
    """Return a hash of the kernels' sources and of what compiles them; the folder ``simulated`` is never compiled."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    for package in ("numba", "numba-cuda", "cuda-bindings"):
        digest.update(f"{package} {version(package)}".encode())
    digest.update(f"NVVM {NVVM().get_version()} {sys.version}".encode())
    return digest.hexdigest()[:16]


def _keep(path: Path, text: str) -> None:
    """Write all or nothing, even if other processes write the file at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mine = path.with_suffix(f".{os.getpid()}")
        mine.write_text(text, encoding="ascii")
        mine.replace(path)
    except OSError:  # a read-only image, a full disk
        return
