"""What the machine is, and what docs/gpu.md could not know of it: versions, whether kernels come through as compiled,
what a launch costs on each way to the device.
"""

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

from benchmarks.gpu.rig import Rig
from benchmarks.record import Figures
from service.execution.gpu.cuda.kernels import entry_of
from service.execution.gpu.runtime import CaptureError, Stream

PACKAGES = ("numpy", "numba", "numba-cuda", "cupy-cuda13x", "cuda-bindings", "cuda-pathfinder", "ml-dtypes")
ASKED = "name,driver_version,pcie.link.gen.max,pcie.link.width.max,power.limit,clocks.max.sm,clocks.max.mem"
ROWS, COLUMNS = 64, 4096

Made = TypeVar("Made")


def measure_facts(rig: Rig) -> Figures:
    """Microseconds of the host to submit work, by its kind; of the device a kernel, launched and replayed."""
    return {**versions(rig), **_launches(rig), **_compiling(rig)}


def versions(rig: Rig) -> Figures:
    """Of the device, the driver and the packages."""
    info = rig.runtime.info
    with rig.runtime.bound():
        free = rig.runtime.free_bytes()
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
    """What CUDA does not say, where the tool is."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    asked = subprocess.run(
        [program, f"--query-gpu={ASKED}", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return {"nvidia_smi": asked.stdout.strip() or asked.stderr.strip()}


def _launches(rig: Rig) -> Figures:
    x, weight = (rig.put(np.ones(shape, np.float32)) for shape in ((ROWS, COLUMNS), (COLUMNS,)))
    out, product = (rig.empty((ROWS, columns), np.float32) for columns in (COLUMNS, ROWS))
    with rig.runtime.bound():
        stream = rig.runtime.stream()
        ops = rig.runtime.ops(stream)
        pinned = rig.runtime.pinned(64)
        calls: dict[str, Callable[[], object]] = {
            "kernel": lambda: ops.rms_norm(x, weight, 1e-5, out),
            "copy": lambda: stream.copy(pinned, out[0, :16]),
            "event": stream.record,
        }
        count = rig.scale.launches
        figures: Figures = {
            f"submit_{name}_us": 1e6 * _host_seconds(stream, call, count) for name, call in calls.items()
        }
        replayed = _replayed(stream, calls["kernel"], count)
        return {**figures, **replayed, **_captured(stream, lambda: ops.linear(x, x, None, product))}


def _replayed(stream: Stream, launch: Callable[[], object], count: int) -> Figures:
    """Kernels one after the other, launched each and replayed as one graph."""

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
    """Whether cuBLAS can be captured."""
    multiply()
    try:
        stream.capture(multiply)
    except CaptureError as error:
        return {"capture_of_cublas": str(error)}
    return {}


def _host_seconds(stream: Stream, submit: Callable[[], object], count: int) -> float:
    """The median time that the call takes, the device being idle."""
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
    """From the first work's beginning to the last one's end, the second time."""
    submit()
    begin = stream.record(timed=True)
    submit()
    end = stream.record(timed=True)
    end.wait()
    return end.seconds_since(begin)


def _compiling(rig: Rig) -> Figures:
    """Seconds of each stage between a kernel's source and its first launch, and by cubin in place of PTX."""
    if rig.simulated:
        return {}
    from kernels.cuda.compiling import to_ptx  # noqa: PLC0415 - needs numba-cuda
    from kernels.cuda.elements import BY_NAME  # noqa: PLC0415
    from kernels.cuda.norms import add_rms_norm  # noqa: PLC0415

    capability = rig.runtime.info.capability
    seconds, ptx = _timed(lambda: to_ptx(add_rms_norm(BY_NAME["float16"]), capability))
    device = rig.runtime.device  # type: ignore[attr-defined]  # CuPy's, which the protocol hides
    with rig.runtime.bound():
        load, _ = _timed(lambda: device.cuda.Module().load(ptx.encode()))
        return {"compile_s": seconds, "load_ptx_s": load, **_cubin(device.cupy, ptx, capability)}


def _cubin(cupy: Any, ptx: str, capability: tuple[int, int]) -> Figures:
    """Where ptxas is: machine code made ahead of time, through `cupy.RawModule`."""
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
