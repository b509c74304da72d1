"""Files that are read by mapping them into memory."""

import mmap

import numpy as np


def release_pages(mapped: np.memmap) -> None:
    """Give the pages of a mapped file that were read back to the system, which keeps them while it has room.

    Nothing happens where the system knows no such advice.
    """
    pages = mapped.base
    if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        pages.madvise(mmap.MADV_DONTNEED)
