"""The CPU's data plane: both KV pools are in its memory."""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numba
import structlog

from kernels.cpu.step.features import FEATURES
from kernels.cpu.step.softmax import MAX_HEAD_DIM
from service.cli.backend import Backend, copies_by_layer, device_blocks, host_blocks
from service.config import CPU_DEVICE_KV, CPU_HOST_KV, ServeSettings, Size
from service.errors import ConfigError, readable
from service.execution.copier import PACES, CPUCopier
from service.execution.kv import KVFormat, KVPools
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import Destination
from service.execution.models.dense_weights import HostWeights
from service.execution.models.loading import LoadedModel, OpenedModel
from service.execution.models.packed_weights import PackedWeights
from service.execution.runner import CPURunner
from service.execution.serving_device import cpu_device
from service.machine.host_memory import available_memory
from service.machine.malloc import trim_heaps
from service.telemetry.start_progress import StartProgress

_log = structlog.get_logger(__name__)


def cpu_backend(settings: ServeSettings, opened: OpenedModel, progress: StartProgress) -> Backend:
    """Return the CPU's backend. Raises `ModelLoadError`, and `ConfigError` for settings that do not fit."""
    weights, kv_format = _weights(settings), _kv_format(settings, opened.config)
    device_kv, host_kv = _sizes(settings)
    blocks = device_blocks(device_kv, kv_format.block_bytes)
    swapped = host_blocks(host_kv, kv_format.block_bytes, settings)
    _require_memory(opened.num_bytes(weights), (blocks + swapped) * kv_format.block_bytes, settings)
    _log.info("cpu_features", features=str(FEATURES), threads=numba.get_num_threads())
    with ThreadPoolExecutor(1) as beside:  # touching a pool's pages takes as long as reading a small model
        pools = beside.submit(KVPools.allocate, kv_format, blocks, swapped)
        loaded = opened.load(weights, partial(progress.count, "loading weights"))
        runner = _runner(loaded, settings, pools, progress)
    trim_heaps()
    return Backend(
        cpu_device(settings.dtype), runner, _copier(settings, runner), blocks, swapped, kv_format.block_bytes
    )


def _weights(settings: ServeSettings) -> Destination:
    match settings.dtype:
        case "float16":
            raise ConfigError("--dtype float16 is for GPUs: the CPU takes auto, bfloat16 or float32")
        case "float32":
            return HostWeights()
        case dtype:
            return PackedWeights(dtype)


def _kv_format(settings: ServeSettings, config: ModelConfig) -> KVFormat:
    if settings.dtype != "float32":
        if config.head_dim > MAX_HEAD_DIM:
            raise ConfigError(f"heads of {config.head_dim} dimensions, over {MAX_HEAD_DIM}, need --dtype float32")
        return KVFormat.padded(config, "bfloat16" if settings.kv_cache_dtype == "auto" else settings.kv_cache_dtype)
    if settings.kv_cache_dtype == "bfloat16":
        raise ConfigError("--kv-cache-dtype bfloat16: with --dtype float32 the CPU keeps KV in float32")
    return KVFormat.plain(config)


def _sizes(settings: ServeSettings) -> tuple[Size, Size]:
    device_kv = CPU_DEVICE_KV if settings.device_kv is None else settings.device_kv
    return device_kv, CPU_HOST_KV if settings.host_kv is None else settings.host_kv


def _require_memory(weights: int, kv: int, settings: ServeSettings) -> None:
    """Raise `ConfigError` if weights and KV, in bytes, cannot fit: the kernel would end the process without a word."""
    available = available_memory()
    if available is None or weights + kv <= available:
        return
    pools = "--device-kv {} and --host-kv {}".format(*_sizes(settings))
    raise ConfigError(
        f"the model's weights take {readable(weights)} and KV {readable(kv)} ({pools}), more than the "
        f"{readable(available)} available here: give less to KV, or serve a smaller model or quantisation"
    )


def _runner(loaded: LoadedModel, settings: ServeSettings, pools: Future[KVPools], progress: StartProgress) -> CPURunner:
    """Return a warm runner."""
    progress.stage("memory for KV")
    try:
        runner = CPURunner(
            loaded.config,
            loaded.weights,
            pools=pools.result(),
            num_slots=settings.max_num_seqs,
            max_batched_tokens=settings.max_num_batched_tokens,
        )
    except MemoryError as error:
        sizes = "--device-kv {} and --host-kv {}".format(*_sizes(settings))
        raise ConfigError(f"{sizes} are more memory than this machine has") from error
    about = "kernels, which a first start compiles"
    runner.warm_up(lambda name, number, count: progress.count(f"{about}: {name}", number, count))
    return runner


def _copier(settings: ServeSettings, runner: CPURunner) -> CPUCopier:
    pace = None if settings.emulate_link is None else PACES[settings.emulate_link]
    copier = CPUCopier(runner.pools, by_layer=copies_by_layer(settings), pace=pace)
    copier.warm_up()
    return copier
