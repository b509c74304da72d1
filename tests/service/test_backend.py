"""The backend: its device, element type and memory, and what is refused at the start."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from kernels.cuda.matrices import WORKSPACE_BYTES
from service.cli import cpu_backend, gpu_backend, open_backend
from service.cli.backend import Backend
from service.cli.main import EXIT_USAGE
from service.cli.open_backend import choose
from service.config import Size, parse
from service.errors import (
    ConfigError,
    DeviceMemoryError,
    DeviceNotFoundError,
    ModelLoadError,
)
from service.execution.copier import CPUCopier
from service.execution.gpu.simulated.faults import losing_device
from service.execution.gpu.simulated.rounding_kernels import RoundingKernels
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.models.loading import open_model
from tests.complaints import complaint as said
from tests.service.simulated_devices import SimulatedDevices

MIB = 1 << 20
ROOT = Path(__file__).parents[2]
FAMILIES = ROOT / "tests" / "data" / "families"

Open = Callable[..., Backend]


def gpu(**options: Any) -> SimulatedRuntime:
    """A device of 256 MiB."""
    return SimulatedRuntime(**{"total_bytes": 256 * MIB, "pinnable_bytes": 256 * MIB, **options})


@pytest.fixture(autouse=True)
def small_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose memory is unknown, of which a GPU takes 4 MiB."""
    monkeypatch.setattr(gpu_backend, "available_memory", lambda: None)
    monkeypatch.setattr(gpu_backend, "GPU_HOST_KV", Size(4 * MIB))


@pytest.fixture
def opened(tiny_model_path: Path) -> Open:
    """Opens the backend that flags ask for, of the tiny model, on machines with certain GPUs."""

    def open_it(*flags: str, gpus: tuple[SimulatedRuntime | None, ...] = (), model: Path = tiny_model_path) -> Backend:
        small = ("--max-num-seqs", "4", "--max-num-batched-tokens", "32")
        settings = parse([*small, *flags])
        return open_backend.open_backend(settings, open_model(model), SimulatedDevices(*gpus))

    return open_it


def taken(runtime: SimulatedRuntime) -> int:
    return runtime.info.total_bytes - runtime.free_bytes()


def test_auto_takes_the_first_gpu_that_works() -> None:
    second, third = gpu(), gpu()
    assert choose("auto", SimulatedDevices(None, second, third)) is second


@pytest.mark.parametrize("gpus", [(), (None,)])
def test_auto_is_the_cpu_where_no_gpu_works(gpus: tuple[None, ...]) -> None:
    assert choose("auto", SimulatedDevices(*gpus)) is None


def test_a_gpu_that_is_not_used_is_reported_where_there_is_a_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logs:
        choose("auto", SimulatedDevices(None))
        monkeypatch.setattr(open_backend, "NVIDIA_DRIVER", tmp_path)
        choose("auto", SimulatedDevices(None))
    ((event, why),) = [(line["event"], line["why"]) for line in logs]
    assert (event, why) == ("gpu_not_used", "cuda:0 does not work")


@pytest.mark.parametrize(("device", "number"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1)])
def test_a_gpu_is_taken_by_its_number(device: str, number: int) -> None:
    gpus = gpu(), gpu()
    assert choose(device, SimulatedDevices(*gpus)) is gpus[number]


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_gpu_that_is_asked_for_and_not_there_is_no_reason_to_take_another(device: str) -> None:
    with pytest.raises(DeviceNotFoundError, match=r"cuda:\d"):
        choose(device, SimulatedDevices(None))


def test_the_cpu_is_taken_when_asked_for_whatever_else_is_there() -> None:
    assert choose("cpu", SimulatedDevices(gpu())) is None


def test_the_cpu_serves_weights_as_stored_with_its_own_sizes(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_backend, "CPU_DEVICE_KV", Size(5 * MIB))
    backend = opened("--device", "cpu")
    assert (backend.device.device, backend.device.dtype) == ("cpu", "as stored")
    assert backend.device_blocks == 5 * MIB // backend.block_bytes
    assert backend.host_blocks == 128 * MIB // backend.block_bytes
    assert isinstance(backend.copier, CPUCopier)


@pytest.mark.parametrize(
    ("flags", "times"),
    [
        ((), 1),
        (("--dtype", "bfloat16", "--kv-cache-dtype", "bfloat16"), 1),
        (("--kv-cache-dtype", "float32"), 2),
        (("--dtype", "float32"), 2),
    ],
)
def test_kv_on_the_cpu_is_in_bfloat16_unless_it_is_exact(opened: Open, flags: tuple[str, ...], times: int) -> None:
    block_bytes = opened("--device", "cpu", "--dtype", "bfloat16").block_bytes
    assert opened("--device", "cpu", *flags).block_bytes == times * block_bytes


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--dtype", "float16"), "--dtype float16 is for GPUs: the CPU takes auto, bfloat16 or float32"),
        (("--dtype", "float32", "--kv-cache-dtype", "bfloat16"), "with --dtype float32 the CPU keeps KV in float32"),
    ],
)
def test_types_that_the_cpu_does_not_have_are_refused(opened: Open, flags: tuple[str, ...], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        opened("--device", "cpu", *flags)


def test_heads_that_a_compiled_step_has_no_memory_for_are_refused(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_backend, "MAX_HEAD_DIM", 8)
    with pytest.raises(ConfigError, match="heads of 16 dimensions, over 8, need --dtype float32"):
        opened("--device", "cpu")


def test_a_gpu_keeps_kv_in_the_type_of_its_weights(opened: Open) -> None:
    with pytest.raises(ConfigError, match="a GPU keeps KV in the type of its weights, float32"):
        opened("--dtype", "float32", "--kv-cache-dtype", "bfloat16", gpus=(gpu(),))


@pytest.mark.parametrize(
    ("asked", "served"),
    [("auto", "bfloat16"), ("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")],
)
def test_a_gpu_serves_in_bfloat16_by_default(opened: Open, asked: str, served: str) -> None:
    runtime = gpu(kernels=RoundingKernels())
    assert opened("--dtype", asked, "--device-kv", "1MiB", gpus=(runtime,)).device.dtype == served


def test_kv_gets_what_the_share_leaves(opened: Open) -> None:
    runtime = gpu()
    backend = opened("--dtype", "float32", "--gpu-memory-utilization", "0.5", gpus=(runtime,))
    allowed = 128 * MIB - WORKSPACE_BYTES  # which the simulated device does not take
    assert backend.device.device == "simulated:0"
    assert allowed - 64 * 1024 < taken(runtime) <= allowed


def test_what_others_hold_is_left_to_them(opened: Open) -> None:
    runtime = gpu()
    with runtime.bound():
        runtime.empty((60 * MIB,), np.uint8)
    opened("--dtype", "float32", "--gpu-memory-utilization", "0.5", gpus=(runtime,))
    assert taken(runtime) <= 128 * MIB - WORKSPACE_BYTES


def test_kv_of_a_size_that_is_asked_for_takes_no_more(opened: Open) -> None:
    backend = opened("--dtype", "float32", "--device-kv", "3MiB", "--gpu-memory-utilization", "0.01", gpus=(gpu(),))
    assert backend.device_blocks == 3 * MIB // backend.block_bytes


def test_all_memory_that_was_free_is_reported_by_use(opened: Open) -> None:
    runtime = gpu()
    memory = opened("--dtype", "float32", "--device-kv", "3MiB", gpus=(runtime,)).memory
    assert sum(memory.values()) == runtime.info.total_bytes
    assert memory["free"] == runtime.free_bytes()
    assert min(memory.values()) > 0


@pytest.mark.parametrize("flags", [("--device-kv", "250MiB"), ("--gpu-memory-utilization", "0.1"), ()])
def test_what_does_not_fit_is_refused_before_it_is_loaded(opened: Open, flags: tuple[str, ...]) -> None:
    runtime = gpu() if flags else gpu(total_bytes=30 * MIB)
    with pytest.raises(DeviceMemoryError, match=r"simulated:0: .* asked for, .* weights \d.*iB, activations .*, KV of"):
        opened("--dtype", "float32", *flags, gpus=(runtime,))
    assert taken(runtime) == 0


def test_kv_for_less_than_a_block_is_refused(opened: Open) -> None:
    with pytest.raises(ConfigError, match="--device-kv 16 bytes is too small for one block"):
        opened("--dtype", "float32", "--device-kv", "16", gpus=(gpu(),))


def test_the_host_gives_half_of_what_it_has_to_spare_and_its_default_at_most(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    for available, expected in ((5 * MIB, 5 * MIB // 2), (100 * MIB, 4 * MIB), (None, 4 * MIB)):
        monkeypatch.setattr(gpu_backend, "available_memory", lambda available=available: available)
        backend = opened("--dtype", "float32", gpus=(gpu(),))
        assert backend.host_blocks == expected // backend.block_bytes


def test_more_than_the_host_has_is_refused_before_it_is_pinned(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_backend, "available_memory", lambda: 100 * MIB)
    with pytest.raises(ConfigError, match=r"--host-kv 101 MiB is more than the host's 100 MiB available"):
        opened("--dtype", "float32", "--host-kv", "101MiB", gpus=(gpu(),))


def test_weights_and_kv_that_the_machine_has_no_memory_for_are_refused_before_they_are_loaded(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_backend, "available_memory", lambda: 3 * MIB)
    sizes = ("--device", "cpu", "--device-kv", "2MiB", "--host-kv")
    assert opened(*sizes, "512KiB").device_blocks > 0
    with pytest.raises(
        ConfigError, match=r"KV 3.996 MiB \(--device-kv 2 MiB and --host-kv 2 MiB\), more than the 3 MiB"
    ):
        opened(*sizes, "2MiB")


def test_a_preset_that_does_not_swap_pins_nothing_for_it(opened: Open) -> None:
    assert opened("--dtype", "float32", "--preset", "vllm-recompute", gpus=(gpu(),)).host_blocks == 0


def test_a_link_is_not_imitated_where_there_is_one(opened: Open) -> None:
    with pytest.raises(ConfigError, match="--emulate-link is for the CPU"):
        opened("--emulate-link", "pcie4", gpus=(gpu(),))


def test_a_model_without_kernels_is_refused_when_it_is_opened(opened: Open) -> None:
    runtime = gpu()
    with pytest.raises(ModelLoadError, match="heads of 24 elements are no multiple of 16 up to 128; --device cpu can"):
        opened("--dtype", "bfloat16", gpus=(runtime,), model=FAMILIES / "wide-heads")
    assert taken(runtime) == 0


def test_a_device_that_is_lost_before_it_serves_is_one_that_is_not_there(opened: Open) -> None:
    runtime = gpu(faults=losing_device(lambda work: work.is_copy, 20))
    with pytest.raises(DeviceNotFoundError, match="simulated:0 was lost while it was made ready: injected"):
        opened("--dtype", "float32", gpus=(runtime,))


PROGRAM = """
import sys
from service.cli import open_backend
from service.cli.main import main
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from tests.service.simulated_devices import SimulatedDevices

open_backend.NvidiaDevices = lambda: SimulatedDevices({runtime})
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("runtime", "complaint"),
    [
        ("", "cuda:0: there are 0"),
        ("SimulatedRuntime(total_bytes=1 << 20)", "simulated:0: .* asked for, 1 MiB of 1 MiB free: weights"),
        (
            "SimulatedRuntime(pinnable_bytes=1 << 19)",
            "page-locked memory for simulated:0: .* 1020 KiB asked for, 0 bytes",
        ),
    ],
    ids=["no device", "too little memory", "not pinned"],
)
def test_a_gpu_that_cannot_serve_is_one_line_and_code_2(tiny_model_path: Path, runtime: str, complaint: str) -> None:
    flags = ["--model", str(tiny_model_path), "--device", "cuda", "--dtype", "float32", "--host-kv", "1MiB"]
    command = [sys.executable, "-c", PROGRAM.format(runtime=runtime), "serve", "--port", "0", *flags]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    line = said(result.stderr)
    assert (result.returncode, result.stdout) == (EXIT_USAGE, "")
    assert re.match(f"fastswitch: {complaint}", line)
