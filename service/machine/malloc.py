"""The C library's heap, kept from spreading.

glibc gives threads heaps of their own, up to eight for each core, and memory that one thread took and another gave back
stays in the first one's heap: a server whose event loop, engine and copy threads hand arrays to each other creeps up
for hours. Two heaps are enough for it: most of its small objects are Python's own allocator's business.
"""

import ctypes
import os

M_ARENA_MAX = -8  # malloc.h
ARENAS = 2


def limit_heaps() -> bool:
    """To `ARENAS`, unless ``MALLOC_ARENA_MAX`` says otherwise; for heaps made from now on. False: not glibc."""
    if "MALLOC_ARENA_MAX" in os.environ:
        return True
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_ARENA_MAX, ARENAS))
