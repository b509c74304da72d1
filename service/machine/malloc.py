"""A bound on the heaps of the C library, and the way to give back what they no longer need.

glibc gives threads heaps of their own, up to eight for each core, and memory that one thread allocates and another
frees stays in the first one's heap. The memory of a server whose event loop, engine and copy threads pass arrays to
each other therefore grows for hours. Two heaps are enough, since Python's own allocator handles most small objects.
"""

import ctypes
import os

M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


def limit_heaps() -> bool:
    """Limit new heaps to `ARENAS`, unless ``MALLOC_ARENA_MAX`` is set. Return False if the library is not glibc."""
    if "MALLOC_ARENA_MAX" in os.environ:
        return True
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, ARENAS))


def trim_heaps() -> None:
    """Give free memory of the heaps back to the system: after a start that compiled, it is more than the weights."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
