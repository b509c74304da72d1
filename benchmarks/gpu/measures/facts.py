"""Facts of the machine that docs/gpu.md leaves open: versions, whether compiled kernels load, what launches cost."""

import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from benchmarks.gpu.under_test import GPUUnderTest
from benchmarks.record import Figures
from service.execution.gpu.cuda.kernels import entry_of
from service.execution.gpu.runtime import CaptureError, Stream

PACKAGES = ("numpy", "numba", "numba-cuda", "cupy-cuda13x", "cuda-bindings", "cuda-pathfinder", "ml-dtypes")
QUERIED = "name,driver_version,pcie.link.gen.max,pcie.link.width.max,power.limit,clocks.max.sm,clocks.max.mem"
ROWS, COLUMNS = 64, 4096

Made = TypeVar("Made")


def measure_facts(gpu: GPUUnderTest) -> Figures:
    """Return the host's microseconds to submit work, by kind, and the device's for a kernel, launched and replayed."""
    return {**versions(gpu), **_launches(gpu), **_compiling(gpu)}


def versions(gpu: GPUUnderTest) -> Figures:
    """Return versions of the device, the driver and the packages."""
    info = gpu.runtime.info
    with gpu.runtime.bound():
        free = gpu.runtime.free_bytes()
    return {
        "device": info.name,
        "capability": ".".join(map(str, info.capability)),
        "processors": info.processors,
        "total_gib": info.total_bytes / 2**30,
        "free_gib": free / 2**30,
        "cuda_driver": info.driver,
        "cuda_runtime": info.runtime,
        **{f"version_{package}": _version(package) for package in PACKAGES},
        **_nvidia_smi(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _nvidia_smi() -> Figures:
    """Return what CUDA does not report, if `nvidia-smi` is installed."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    done = subprocess.run(
        [program, f"--query-gpu={QUERIED}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return {"nvidia_smi": done.stdout.strip() or done.stderr.strip()}


def _launches(gpu: GPUUnderTest) -> Figures:
    x, weight = (gpu.put(np.ones(shape, np.float32)) for shape in ((ROWS, COLUMNS), (COLUMNS,)))
    out, product = (gpu.empty((ROWS, columns), np.float32) for columns in (COLUMNS, ROWS))
    with gpu.runtime.bound():
        stream = gpu.runtime.stream()
        ops = gpu.runtime.ops(stream)
        pinned = gpu.runtime.pinned(64)
        calls: dict[str, Callable[[], object]] = {
            "kernel": lambda: ops.rms_norm(x, weight, 1e-5, out),
            "copy": lambda: stream.copy(pinned, out[0, :16]),
            "event": stream.record,
        }
        count = gpu.scale.launches
        figures: Figures = {
            f"submit_{name}_us": 1e6 * _host_seconds(stream, call, count) for name, call in calls.items()
        }
        replayed = _replayed(stream, calls["kernel"], count)
        return {**figures, **replayed, **_captured(stream, lambda: ops.linear(x, x, None, product))}


def _replayed(stream: Stream, launch: Callable[[], object], count: int) -> Figures:
    """Time kernels in a row, launched one by one and replayed as one graph."""

    def many() -> None:
        for _ in range(count):
            launch()

    figures: Figures = {"kernel_launched_us": 1e6 * _device_seconds(stream, many) / count}
    try:
        graph = stream.capture(many)
    except CaptureError as error:
        return {**figures, "capture": str(error)}
    replay = _device_seconds(stream, lambda: stream.replay(graph))
    submit = _host_seconds(stream, lambda: stream.replay(graph), count)
    return {**figures, "kernel_replayed_us": 1e6 * replay / count, f"submit_graph_of_{count}_us": 1e6 * submit}


def _captured(stream: Stream, multiply: Callable[[], None]) -> Figures:
    """Return the error if cuBLAS cannot be captured into a graph."""
    multiply()
    try:
        stream.capture(multiply)
    except CaptureError as error:
        return {"capture_of_cublas": str(error)}
    return {}


def _host_seconds(stream: Stream, submit: Callable[[], object], count: int) -> float:
    """Return the median time of the call while the device is idle."""
    submit()
    took = []
    for _ in range(count):
        stream.record().wait()
        began = perf_counter()
        submit()
        took.append(perf_counter() - began)
    stream.record().wait()
    return median(took)


def _device_seconds(stream: Stream, submit: Callable[[], object]) -> float:
    """Return the time from the beginning of the first work to the end of the last, in the second of two runs."""
    submit()
    begin = stream.record(timed=True)
    submit()
    end = stream.record(timed=True)
    end.wait()
    return end.seconds_since(begin)


def _compiling(gpu: GPUUnderTest) -> Figures:
    """Return seconds of each stage between a kernel's source and its first launch, from PTX and from a cubin."""
    if gpu.simulated:
        return {}
    from kernels.cuda.compiling import to_ptx  # noqa: PLC0415 - needs numba-cuda
    from kernels.cuda.elements import BY_NAME  # noqa: PLC0415
    from kernels.cuda.norms import add_rms_norm  # noqa: PLC0415

    capability = gpu.runtime.info.capability
    seconds, ptx = _timed(lambda: to_ptx(add_rms_norm(BY_NAME["float16"]), capability))
    device = gpu.runtime.device  # type: ignore[attr-defined]  # CuPy's, which the protocol hides
    with gpu.runtime.bound():
        load, _ = _timed(lambda: device.cuda.Module().load(ptx.encode()))
        return {"compile_s": seconds, "load_ptx_s": load, **_cubin(device.cupy, ptx, capability)}


def _cubin(cupy: Any, ptx: str, capability: tuple[int, int]) -> Figures:
    """Load machine code made ahead of time through `cupy.RawModule`, if ptxas is installed."""
    ptxas = shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")
    if ptxas is None:
        return {"cubin": "no ptxas on the PATH"}
    with TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="ascii")
        command = [ptxas, f"-arch=sm_{capability[0]}{capability[1]}", str(source), "-o", str(target)]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if made.returncode:
            return {"cubin": made.stderr.strip()}
        load, _ = _timed(lambda: cupy.RawModule(path=str(target)).get_function(entry_of(ptx)))
        return {"load_cubin_s": load}


def _timed(make: Callable[[], Made]) -> tuple[float, Made]:
    began = perf_counter()
    made = make()
    return perf_counter() - began, made
