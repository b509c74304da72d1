"""The GPU's suite on the simulated device: right kernels pass, wrong ones fail, and every marked figure is measured."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.gpu import __main__ as suite
from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.checks.check import CheckResult
from benchmarks.gpu.checks.running import run_checks
from benchmarks.gpu.measures import NAMES
from benchmarks.gpu.measures.engine_load import ChatLoad, EngineUnderLoad
from benchmarks.gpu.measures.marks import MARKS, Mark, judged
from benchmarks.gpu.measures.running import take
from benchmarks.gpu.scale import TINY_SCALE
from benchmarks.gpu.under_test import GPUUnderTest, simulated_gpu
from service.core.core import Core
from service.execution.copier import CPUCopier
from service.execution.gpu.graphs import DecodeGraphs
from service.execution.gpu.runtime import CaptureError
from service.execution.gpu.simulated.faults import losing_device
from service.execution.gpu.simulated.rounding_kernels import RoundingKernels
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.kv import KVPools
from service.simulation.runner import SimulatedRunner
from tests.execution.conftest import make_random_model
from tests.settings import core_settings, make_policy

ROOT = Path(__file__).parents[2]
NOT_ON_A_CPU = {"moves: copy_runs", "sanitizer: no tool", "sanitizer: memcheck", "sanitizer: racecheck"}


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


class Wrong(RoundingKernels):
    """The right kernels with one op replaced."""

    def __init__(self, name: str, op: Callable[..., None]) -> None:
        self._name, self._op = name, op

    def __getattr__(self, name: str) -> Callable[..., None]:
        return self._op if name == self._name else super().__getattr__(name)


def a_little_off(x: Any, weight: Any, eps: float, out: Any) -> None:
    """A norm whose results are 2 % too large."""
    RoundingKernels().rms_norm(x, weight, eps, out)
    out *= np.float32(1.02).astype(out.dtype)


def in_the_next_block(kv: Any, layer: int, qkv: Any, slot_mapping: Any) -> None:
    """A store that writes KV into the next block."""
    RoundingKernels().store_kv(kv, layer, qkv, (slot_mapping + 16) % (16 * len(kv)))


def without_the_last(gate_up: Any, out: Any) -> None:
    """An activation that forgets a row's last element."""
    kept = out[:, -1].copy()
    RoundingKernels().silu_mul(gate_up, out)
    out[:, -1] = kept


def beyond_its_end(table: Any, rows: Any, out: Any) -> None:
    """A copy of rows that writes one row more."""
    RoundingKernels().take_rows(table, rows, out)
    np.lib.stride_tricks.as_strided(out, (len(out) + 1, out.shape[1]))[-1] = 0


def second_best(logits: Any, *others: Any) -> None:
    """A sampler that is wrong for greedy rows only."""
    RoundingKernels().sample(logits, *others)
    greedy, out = others[0] == 0, others[-1]
    out[greedy] = np.argsort(-logits[greedy], axis=1)[:, 1]


def beside_its_output(x: Any, weight: Any, bias: Any, out: Any) -> None:
    """A product that changes its input."""
    RoundingKernels().linear(x, weight, bias, out)
    x[0, 0] = 0


WRONG = {
    "rms_norm": (a_little_off, "layers"),
    "store_kv": (in_the_next_block, "layers"),
    "take_rows": (beyond_its_end, "layers"),
    "silu_mul": (without_the_last, "layers"),
    "linear": (beside_its_output, "layers"),
    "sample": (second_best, "draws"),
}


def failed(gpu: GPUUnderTest, *groups: str) -> list[CheckResult]:
    return [result for result in run_checks(gpu, groups) if result.outcome == "failed"]


@pytest.mark.parametrize("group", CHECKS)
def test_what_is_right_passes(group: str) -> None:
    results = list(run_checks(simulated_gpu(), [group]))
    assert [result for result in results if result.outcome == "failed"] == []
    assert {result.name for result in results if result.outcome == "skipped"} <= NOT_ON_A_CPU
    assert results


@pytest.mark.parametrize("op", WRONG)
def test_a_wrong_kernel_fails_its_own_checks_and_no_others(op: str) -> None:
    kernel, group = WRONG[op]
    found = failed(simulated_gpu(Wrong(op, kernel)), group)
    assert found
    assert all(result.name.startswith(f"{group}: {op}, ") for result in found)


def test_a_wrong_kernel_changes_answers() -> None:
    found = failed(simulated_gpu(Wrong("silu_mul", without_the_last)), "answers")
    assert {"answers: tokens are the CPU's in float32", "answers: logits in bfloat16"} <= {each.name for each in found}


def test_checks_that_cannot_be_made_are_a_failure() -> None:
    (result,) = run_checks(GPUUnderTest(None, TINY_SCALE, simulated=True), ["layers"])  # type: ignore[arg-type]
    assert result.outcome == "failed"


def test_a_lost_device_ends_the_checks() -> None:
    faults = losing_device(lambda work: work.is_copy, 10)
    runtime = SimulatedRuntime(kernels=RoundingKernels(), faults=faults)  # type: ignore[arg-type]
    results = list(run_checks(GPUUnderTest(runtime, TINY_SCALE, simulated=True), list(CHECKS)))
    assert [result.outcome for result in results].count("failed") == 1
    assert results[-1].remark.startswith("DeviceLostError")


def figures_of(*names: str, gpu: GPUUnderTest | None = None, budget_s: float = 600) -> dict[str, Any]:
    taken = take(gpu or simulated_gpu(), names, budget_s)
    return {name: value for _, figures, _ in taken for name, value in figures.items()}


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return figures_of("facts", "links", "swaps", "decode", "prefill", "interference", "idle")


def test_every_mark_is_measured(figures: dict[str, Any]) -> None:
    marks = judged(figures)
    assert [mark["figure"] for mark in marks] == [mark.figure for mark in MARKS]
    assert all(isinstance(mark["value"], float) and mark["met"] in (True, False) for mark in marks)


def test_no_measurement_fails_or_is_left_out(figures: dict[str, Any]) -> None:
    assert [name for name in figures if name.endswith(("_failed", "_left_out"))] == []


def test_steps_are_timed_for_every_batch_size(figures: dict[str, Any]) -> None:
    assert all(figures[f"decode_step_ms_{batch}"] > 0 for batch in TINY_SCALE.batches)


@pytest.mark.full
def test_presets_are_compared() -> None:
    found = figures_of("switching")
    presets = {"vllm-0.3.3", "vllm-recompute", "groups", "groups+reuse", "groups+reuse+async", "full"}
    assert {f"switching_tiny_{preset}" for preset in presets} == found.keys()
    assert all(figures["turns"] for figures in found.values())


def test_a_measurement_that_fails_says_so_and_the_next_is_taken() -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such kernel")

    found = figures_of("decode", "links", gpu=simulated_gpu(Wrong("silu_mul", broken)))
    assert found["decode_failed"] == "ValueError: no such kernel"
    assert "duplex_gb_per_s" in found


def test_measurements_without_time_are_reported_as_left_out() -> None:
    assert set(figures_of("links", "idle", budget_s=-1)) == {"links_left_out", "idle_left_out"}


def test_checks_without_time_are_reported_as_skipped() -> None:
    results = list(run_checks(simulated_gpu(), ["moves"], budget_s=-1))
    assert {result.outcome for result in results} == {"skipped"}
    assert all(result.remark.startswith("no time") for result in results)


def test_decoding_without_graphs_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CaptureError("not today")

    monkeypatch.setattr(DecodeGraphs, "capture", refuse)
    assert [result.name for result in failed(simulated_gpu(), "answers")] == [
        "answers: graphs draw what plain steps draw"
    ]


def test_a_part_is_added_to_what_is_stored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(suite, "_stores_nothing", lambda *_: False)
    monkeypatch.setattr(suite, "_quiet", lambda: None)  # it would also silence later tests
    for name in ("facts", "links"):
        suite.main(["bench", "--simulated", "--only", name, "--output", str(tmp_path), "--commit", "abc"])
    figures = json.loads((tmp_path / "gpu.json").read_text())["figures"]
    assert {"submit_kernel_us", "duplex_gb_per_s", "version_numba"} <= figures.keys()


@pytest.mark.parametrize(("at_least", "good", "bad"), [(True, 0.96, 0.94), (False, 0.94, 0.96)])
def test_a_mark_is_a_bound_on_one_side(at_least: bool, good: float, bad: float) -> None:
    mark = Mark("share", 0.95, at_least, "")
    assert mark.met(good)
    assert not mark.met(bad)
    assert "MISSED" in mark.line({"share": bad})


def test_refused_requests_of_a_load_are_an_error() -> None:
    core = Core(core_settings(device_blocks=1), make_policy("fcfs"))
    config, _ = make_random_model()
    copier = CPUCopier(KVPools.plain(config, 1))
    load = ChatLoad(users=2, vocab_size=100, history=0, question=40, answer=5, turns=1)
    with pytest.raises(RuntimeError, match="refused"):
        EngineUnderLoad(core, SimulatedRunner(vocab_size=100), copier, load).run()


def test_the_programs_names_are_those_of_its_tables() -> None:
    assert tuple(CHECKS) == suite.GROUPS
    assert NAMES == suite.MEASURES


def test_help_needs_no_gpu() -> None:
    assert call("--help").returncode == 0


def test_without_a_gpu_it_says_so_in_one_line() -> None:
    done = call("test", "--device", "99")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    done = call("bench", "--simulated", "--only", "speed")
    assert done.returncode == 2
    assert "switching" in done.stderr


@pytest.mark.full
@pytest.mark.parametrize("what", ["test", "bench"])
def test_the_whole_program_runs_on_the_simulated_device_and_stores_nothing(what: str, tmp_path: Path) -> None:
    done = call(what, "--simulated", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []
