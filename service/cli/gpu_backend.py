"""A GPU's data plane. The host's KV pool is page-locked; weights and KV have one element type."""

from functools import partial
from typing import Any

import numpy as np

from kernels.cuda.matrices import WORKSPACE_BYTES
from service.cli.backend import Backend, copies_by_layer, device_blocks, host_blocks
from service.config import GPU_HOST_KV, ServeSettings, Size
from service.errors import ConfigError, DeviceLostError, DeviceNotFoundError, readable
from service.execution.gpu.budget import MemoryBudget, StepSizes
from service.execution.gpu.copier import GPUCopier
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.gpu.runtime import Runtime
from service.execution.gpu.supported import element_type, require_supported
from service.execution.gpu.weights import DeviceWeights
from service.execution.kv import kv_bytes_per_block
from service.execution.models.loading import OpenedModel
from service.execution.serving_device import ServingDevice
from service.machine.host_memory import available_memory
from service.telemetry.start_progress import StartProgress


def gpu_backend(settings: ServeSettings, opened: OpenedModel, runtime: Runtime, progress: StartProgress) -> Backend:
    """Return a GPU's backend. Raises `ConfigError`, `ModelLoadError` and `MachineMemoryError`."""
    if settings.emulate_link is not None:
        raise ConfigError(
            f"--emulate-link is for the CPU, and {runtime.info.device} has a link of its own: add --device cpu"
        )
    try:
        return _backend(settings, opened, runtime, progress)
    except DeviceLostError as error:
        raise DeviceNotFoundError(f"{runtime.info.device} was lost while it was made ready: {error.message}") from error


def _backend(settings: ServeSettings, opened: OpenedModel, runtime: Runtime, progress: StartProgress) -> Backend:
    dtype = element_type("bfloat16" if settings.dtype == "auto" else settings.dtype)
    if settings.kv_cache_dtype not in ("auto", dtype.name):
        asked = f"--kv-cache-dtype {settings.kv_cache_dtype}"
        raise ConfigError(f"{asked}: a GPU keeps KV in the type of its weights, {dtype.name}")
    require_supported(opened.config, dtype)
    block_bytes = kv_bytes_per_block(opened.config, dtype)
    swapped = host_blocks(_host_kv(settings, available_memory()), block_bytes, settings)
    free = _free_bytes(runtime)
    blocks = _device_blocks(settings, runtime, opened, dtype, free)
    progress.stage("memory for KV")
    pools = GPUPools(runtime, opened.config, dtype, device_blocks=blocks, host_blocks=swapped)
    loaded = opened.load(DeviceWeights(runtime, dtype), partial(progress.count, "loading weights"))
    with runtime.bound():
        compute = runtime.stream(urgent=True)
    runner = GPURunner(
        loaded.config,
        loaded.weights,
        runtime,
        pools,
        compute,
        num_slots=settings.max_num_seqs,
        max_batched_tokens=settings.max_num_batched_tokens,
    )
    progress.stage("compiling kernels")
    runner.warm_up()
    copier = GPUCopier(runtime, pools, compute, by_layer=copies_by_layer(settings))
    device = ServingDevice(runtime.info.device, runtime.info.name, dtype.name)
    memory = _memory(runtime, free, weights=opened.num_weights * dtype.itemsize, kv=pools.device.nbytes)
    return Backend(device, runner, copier, blocks, swapped, block_bytes, memory)


def _free_bytes(runtime: Runtime) -> int:
    with runtime.bound():
        return runtime.free_bytes()


def _memory(runtime: Runtime, before: int, *, weights: int, kv: int) -> dict[str, int]:
    """Return the use of the ``before`` bytes that were free: all but weights and KV is the steps' workspace."""
    free = _free_bytes(runtime)
    return {"weights": weights, "kv": kv, "workspace": before - free - weights - kv, "free": free}


def _device_blocks(
    settings: ServeSettings, runtime: Runtime, opened: OpenedModel, dtype: np.dtype[Any], free: int
) -> int:
    """Return the blocks of the device's pool: as many as asked for, or as fit into the ``free`` bytes."""
    info, block_bytes = runtime.info, kv_bytes_per_block(opened.config, dtype)
    sizes = StepSizes(
        opened.config, free // block_bytes, settings.max_num_seqs, settings.max_num_batched_tokens, info.processors
    )
    needs = {
        "weights": opened.num_weights * dtype.itemsize,
        **sizes.needs(dtype),
        "matrices": WORKSPACE_BYTES,
    }
    budget = MemoryBudget(info.device, free, info.total_bytes, needs, block_bytes, spare_blocks=1)
    if settings.device_kv is None:
        return budget.blocks(settings.gpu_memory_utilization)
    blocks = device_blocks(settings.device_kv, block_bytes)
    budget.require(blocks)
    return blocks


def _host_kv(settings: ServeSettings, available: int | None) -> Size:
    """Return what was asked for, or 4 GiB, or half of the host's available memory if that is less.

    Raises `ConfigError` for more than is available: page-locking that much would get some process killed.
    """
    if settings.host_kv is None:
        return GPU_HOST_KV if available is None else min(GPU_HOST_KV, Size(available // 2))
    if available is not None and settings.host_kv > available:
        raise ConfigError(f"--host-kv {settings.host_kv} is more than the host's {readable(available)} available")
    return settings.host_kv
