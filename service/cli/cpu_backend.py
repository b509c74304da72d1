"""The CPU's data plane: both KV pools are in its memory, and everything is float32."""

from service.cli.backend import Backend, copies_by_layer, device_blocks, host_blocks
from service.config import CPU_DEVICE_KV, CPU_HOST_KV, ServeSettings, Size
from service.errors import ConfigError
from service.execution.copier import PACES, CPUCopier
from service.execution.kv import kv_bytes_per_block
from service.execution.models.dense_weights import HostWeights
from service.execution.models.loading import LoadedModel, OpenedModel
from service.execution.runner import CPURunner
from service.execution.serving_device import cpu_device


def cpu_backend(settings: ServeSettings, opened: OpenedModel) -> Backend:
    """Return the CPU's backend. Raises `ModelLoadError`, and `ConfigError` for settings that do not fit."""
    if settings.dtype not in ("auto", "float32"):
        raise ConfigError(f"--dtype {settings.dtype} is for GPUs: the CPU computes in float32")
    block_bytes = kv_bytes_per_block(opened.config)
    device_kv, host_kv = _sizes(settings)
    blocks = device_blocks(device_kv, block_bytes)
    swapped = host_blocks(host_kv, block_bytes, settings)
    loaded = opened.load(HostWeights())
    runner = _runner(loaded, settings, blocks, swapped)
    return Backend(cpu_device(), runner, _copier(settings, runner), blocks, swapped, block_bytes)


def _sizes(settings: ServeSettings) -> tuple[Size, Size]:
    device_kv = CPU_DEVICE_KV if settings.device_kv is None else settings.device_kv
    return device_kv, CPU_HOST_KV if settings.host_kv is None else settings.host_kv


def _runner(loaded: LoadedModel, settings: ServeSettings, blocks: int, swapped: int) -> CPURunner:
    """Return a warm runner."""
    try:
        runner = CPURunner(
            loaded.config,
            loaded.weights,
            num_blocks=blocks,
            host_blocks=swapped,
            num_slots=settings.max_num_seqs,
            max_batched_tokens=settings.max_num_batched_tokens,
        )
    except MemoryError as error:
        sizes = "--device-kv {} and --host-kv {}".format(*_sizes(settings))
        raise ConfigError(f"{sizes} are more memory than this machine has") from error
    runner.warm_up()
    return runner


def _copier(settings: ServeSettings, runner: CPURunner) -> CPUCopier:
    pace = None if settings.emulate_link is None else PACES[settings.emulate_link]
    copier = CPUCopier(runner.pools, by_layer=copies_by_layer(settings), pace=pace)
    copier.warm_up()
    return copier
