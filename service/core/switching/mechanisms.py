"""Mechanisms of context switching, and the presets that name their combinations.

Presets exist to be compared, and to be rolled out one after another. They change how KV moves, never which requests
are admitted: the scheduler is the same under all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Mechanisms:
    """Which mechanisms are on.

    ``swap``: KV that must leave the device is copied to the host; else it is dropped and computed again.
    ``groups``: sequences get block groups and a copy moves whole extents; else single blocks, one copy a block, layer
    and side (K or V).
    ``reuse``: a victim gives only the blocks that are needed, and copies on the host survive a swap-in, so that only
    what is new is copied out again; else a sequence's KV is on one side only, and leaves as a whole.
    ``asynchronous``: copies run beside the model; else steps wait for every copy.
    ``compaction``: groups move together on the device when free blocks are scattered.
    ``shadow``: serve first come, first served, and only count what the configured policy would have switched.
    """

    swap: bool = True
    groups: bool = True
    reuse: bool = True
    asynchronous: bool = True
    compaction: bool = False
    shadow: bool = False


PRESETS: Mapping[str, Mechanisms] = MappingProxyType(
    {
        "observe": Mechanisms(shadow=True),
        "vllm-0.3.3": Mechanisms(groups=False, reuse=False, asynchronous=False),
        "vllm-recompute": Mechanisms(swap=False, reuse=False, asynchronous=False),
        "groups": Mechanisms(reuse=False, asynchronous=False),
        "groups+reuse": Mechanisms(asynchronous=False),
        "groups+reuse+async": Mechanisms(),
        "full": Mechanisms(compaction=True),
    }
)
