"""Where Numba keeps the compiled code of this package: in a folder of these very sources.

Numba's own cache looks at the file of a kernel alone, although a kernel includes functions of other files. The folder
here is named by a digest of all files and of the compilers, so that no kernel is loaded that other sources made. It is
in ``NUMBA_CACHE_DIR`` if that is set, else in ``__pycache__`` or, where that cannot be written to, in the user's cache.
Folders of former sources are removed, but for the last ones used.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import FunctionType

from numba.core import config
from numba.core.caching import CacheImpl, _CacheLocator

SOURCES = Path(__file__).parent
PREFIX = "kernels-"
KEPT = 4  # folders of former sources


class _Locator(_CacheLocator):
    """Tells Numba where the code of a function is."""

    def __init__(self, folder: Path, function: FunctionType) -> None:
        self._folder = folder
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function: FunctionType, file: str) -> "_Locator | None":
        """Return None for a function of others, which Numba finds a place for."""
        path = Path(file)
        root = folder() if path.is_relative_to(SOURCES) else None
        return None if root is None else cls(root / path.relative_to(SOURCES).parent, function)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return digest()

    def get_disambiguator(self) -> str:
        return str(self._line)


@cache
def folder() -> Path | None:
    """Return the folder, made if it is new, and remove old ones. None: there is nowhere to write."""
    for place in _places():
        found = place / f"{PREFIX}{digest()}"
        with suppress(OSError):
            found.mkdir(parents=True, exist_ok=True)
            os.utime(found)  # its last use
            if os.access(found, os.W_OK):
                _remove_old(place)
                return found
    return None


def _places() -> Iterator[Path]:
    asked: str = config.CACHE_DIR  # type: ignore[attr-defined]
    if asked:
        yield Path(asked)
        return
    yield SOURCES / "__pycache__"
    with suppress(RuntimeError):  # no home
        yield Path.home() / ".cache" / "fastswitch"


@cache
def digest() -> str:
    """Return a hash of the sources, as they are when it is first asked for, and of what compiles them."""
    found = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*.py")):
        text = path.read_bytes()
        found.update(f"{path.relative_to(SOURCES)} {len(text)}\n".encode() + text)
    for package in ("numba", "llvmlite"):
        found.update(f"{package} {version(package)}".encode())
    return found.hexdigest()[:16]


def _remove_old(place: Path) -> None:
    """Keep the folder in use, and the last few before it."""
    used = sorted(place.glob(f"{PREFIX}*"), key=_last_use, reverse=True)
    for old in used[1 + KEPT :]:
        shutil.rmtree(old, ignore_errors=True)


def _last_use(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0


# NUMBA_CACHE_LOCATOR_CLASSES, the documented way, would hold for every package of the process.
CacheImpl._locator_classes.insert(0, _Locator)
