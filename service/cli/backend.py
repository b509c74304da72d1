"""What computes, as the rest of the service takes it: the same whether it is the CPU or a GPU."""

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
    """A data plane that holds a model, warm. Blocks are those that core may give away.

    ``memory``: a GPU's, in bytes by `service.telemetry.devices.MEMORY_KINDS`; nothing on the CPU, whose
    memory is not its own.
    """

    device: ServingDevice
    runner: Runner
    copier: Copier
    device_blocks: int
    host_blocks: int
    block_bytes: int
    memory: Mapping[str, int] = field(default_factory=dict)


def device_blocks(device_kv: Size, block_bytes: int) -> int:
    """Blocks in so many bytes. Raises `ConfigError` if there is not one."""
    blocks = int(device_kv) // block_bytes
    if not blocks:
        raise ConfigError(f"--device-kv {device_kv} is too small for one block of {BLOCK_TOKENS} tokens")
    return blocks


def host_blocks(host_kv: Size, block_bytes: int, settings: ServeSettings) -> int:
    """Blocks in so many bytes; none under a preset that does not swap."""
    return int(host_kv) // block_bytes if PRESETS[settings.preset].swap else 0


def copies_by_layer(settings: ServeSettings) -> bool:
    """Whether a copy moves a block's layer and side (K or V), as systems without block groups must."""
    return not PRESETS[settings.preset].groups
