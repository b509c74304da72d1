"""The data plane as the rest of the service sees it, the same for the CPU and for GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from allocator import BLOCK_TOKENS
from service.config import ServeSettings, Size
from service.core.messages.ports import Copier, Runner
from service.core.switching.mechanisms import PRESETS
from service.errors import ConfigError
from service.execution.serving_device import ServingDevice


@dataclass(frozen=True, slots=True)
class Backend:
    """A warm data plane that holds a model. The blocks are those that core may assign.

    ``memory``: a GPU's, in bytes by `service.telemetry.devices.MEMORY_KINDS`; empty on the CPU, which shares the
    host's.
    """

    device: ServingDevice
    runner: Runner
    copier: Copier
    device_blocks: int
    host_blocks: int
    block_bytes: int
    memory: Mapping[str, int] = field(default_factory=dict)


def device_blocks(device_kv: Size, block_bytes: int) -> int:
    """Return the blocks that fit into ``device_kv``. Raises `ConfigError` if none does."""
    blocks = int(device_kv) // block_bytes
    if not blocks:
        raise ConfigError(f"--device-kv {device_kv} is too small for one block of {BLOCK_TOKENS} tokens")
    return blocks


def host_blocks(host_kv: Size, block_bytes: int, settings: ServeSettings) -> int:
    """Return the blocks that fit into ``host_kv``; none under a preset that does not swap."""
    return int(host_kv) // block_bytes if PRESETS[settings.preset].swap else 0


def copies_by_layer(settings: ServeSettings) -> bool:
    """Return whether each copy moves one layer and side (K or V) of a block, as without block groups it must."""
    return not PRESETS[settings.preset].groups
