"""The C library's heaps."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")

HEAPS = """
import ctypes, threading
from service.machine.malloc import limit_heaps
assert limit_heaps() is True
take = ctypes.CDLL(None).malloc
take.restype = ctypes.c_void_p
ready = threading.Barrier(8)
def run():
    for _ in range(100):
        take(10_000)
    ready.wait()
threads = [threading.Thread(target=run) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
ctypes.CDLL(None).malloc_stats()
"""


def heaps(**environment: str) -> int:
    """Return the heaps that the C library counts after eight threads at once asked it for memory."""
    environment = {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", HEAPS], env=environment, capture_output=True, text=True, check=True)
    return done.stderr.count("Arena ")


def test_eight_threads_share_two_heaps() -> None:
    assert heaps() == 2


def test_the_environment_has_its_way() -> None:
    assert heaps(MALLOC_ARENA_MAX="5") == 5
