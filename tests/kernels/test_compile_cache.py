"""Compiled code is found again, until any source that it may include has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernels.cpu import compile_cache

KERNELS = Path(__file__).parents[2] / "kernels"

PROGRAM = """
import ctypes, numpy
from kernels.cpu import compile_cache
from kernels.cpu.step.probe import store

store.address
out = numpy.zeros(1, numpy.int64)
ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(store.address)(out.ctypes.data, 0, 0, 0)
print(out[0], store._compiled.cache_hits, compile_cache.folder())
"""
PROBE = """
from kernels.cpu.step.probed import value
from kernels.cpu.step.memory import longs
from kernels.cpu.step.unit_kernel import unit_kernel

@unit_kernel
def store(op, step, unit, scratch):
    longs(op)[0] = value()
"""
PROBED = """
from kernels.cpu.step.vectors import LONG, emitted
from numba import types

@emitted(0, types.int64)
def value(emit):
    return LONG({})
"""


class Copy:
    """A copy of the package, with a kernel that includes an intrinsic of another file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(KERNELS, root / "kernels", ignore=shutil.ignore_patterns("__pycache__", "cuda"))
        self.step = root / "kernels/cpu/step"
        (self.step / "probe.py").write_text(PROBE)
        self.edit(1)

    def edit(self, value: int) -> None:
        """Change what the intrinsic's file says."""
        (self.step / "probed.py").write_text(PROBED.format(value))

    def run(self, **environment: str) -> tuple[int, int, Path]:
        """Call the kernel in a process; return what it stores, how often it was loaded, and the cache's folder."""
        variables = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=self.root,
            env=variables | {"PYTHONPATH": str(self.root), "HOME": str(self.root / "home"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        value, loads, folder = ended.stdout.split()
        return int(value), int(loads), Path(folder)


@pytest.fixture(autouse=True)
def shares() -> None:
    """Replace the fixture that runs each test of the other kernels in one share and in three."""


@pytest.fixture
def copy(tmp_path: Path) -> Copy:
    return Copy(tmp_path)


def test_an_unchanged_package_loads_and_an_edited_one_is_compiled(copy: Copy) -> None:
    first, again = copy.run(), copy.run()
    assert (first[:2], again[:2]) == ((1, 0), (1, 1))
    assert first[2] == again[2]
    assert first[2].parent == copy.root / "kernels/cpu/__pycache__"
    copy.edit(2)
    edited = copy.run()
    assert edited[:2] == (2, 0)
    assert edited[2] != first[2]
    copy.edit(1)
    assert copy.run() == again


def test_an_operator_chooses_the_folder(copy: Copy) -> None:
    chosen = str(copy.root / "chosen")
    assert [copy.run(NUMBA_CACHE_DIR=chosen)[1] for _ in range(2)] == [0, 1]
    assert copy.run(NUMBA_CACHE_DIR=chosen)[2].parent == Path(chosen)


def test_where_the_package_cannot_be_written_to_it_is_the_user_s(copy: Copy) -> None:
    (copy.root / "kernels/cpu/__pycache__").touch()  # a file, where root could write into a folder
    variables = {"PYTHONDONTWRITEBYTECODE": "1"}
    assert [copy.run(**variables)[1] for _ in range(2)] == [0, 1]
    assert copy.run(**variables)[2].parent == copy.root / "home/.cache/fastswitch"


def test_folders_of_former_sources_are_removed_but_for_the_last_ones_used(tmp_path: Path) -> None:
    for age in range(8):
        old = tmp_path / f"{compile_cache.PREFIX}{age}"
        (old / "step").mkdir(parents=True)
        (old / "step" / "code.nbc").touch()
        os.utime(old, (1000 - age, 1000 - age))
    (tmp_path / "other").mkdir()
    compile_cache._remove_old(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"other", *(f"{compile_cache.PREFIX}{age}" for age in range(1 + compile_cache.KEPT))}


def test_functions_of_others_keep_numba_s_own_place(tmp_path: Path) -> None:
    def function() -> None:
        pass

    assert compile_cache._Locator.from_function(function, str(tmp_path / "other.py")) is None
