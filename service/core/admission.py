"""The best ranks that fit together: whom a step is for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from allocator import KVMemory
from service.core.state.requests import Request


@dataclass(frozen=True, slots=True)
class Budget:
    """What one step may hold: query tokens and batch rows. At least one token a row."""

    tokens: int
    rows: int


def cut(ranked: Sequence[Request], running: Collection[Request], memory: KVMemory, rows: int) -> list[Request]:
    """Walk the ranks and keep whoever fits on the device, in at most ``rows`` rows, up to the first who does not.

    So a large request is not passed over for ever. A newcomer must leave everyone above it one block to grow into.
    """
    kept: list[Request] = []
    room = memory.device.num_blocks
    for request in ranked:
        need = memory.device_blocks_for(request.num_tokens)
        slack = 0 if request in running else len(kept)
        if len(kept) == rows or need + slack > room:
            break
        room -= need
        kept.append(request)
    return kept
