"""Admission: which requests a step is for, the best ranks that fit on the device together."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from allocator import KVMemory
from service.core.state.requests import Request


@dataclass(frozen=True, slots=True)
class Budget:
    """What one step may hold: query tokens, and batch rows of at least one token each."""

    tokens: int
    rows: int


def admit(ranked: Sequence[Request], running: Collection[Request], memory: KVMemory, rows: int) -> list[Request]:
    """Return the best ranks that fit on the device, at most ``rows``, up to the first that does not fit.

    Stopping there keeps a large request from being passed over for ever. A request that is not running must leave a
    block for each request above it to grow into.
    """
    admitted: list[Request] = []
    free = memory.device.num_blocks
    for request in ranked:
        need = memory.device_blocks_for(request.num_tokens)
        slack = 0 if request in running else len(admitted)
        if len(admitted) == rows or need + slack > free:
            break
        free -= need
        admitted.append(request)
    return admitted
