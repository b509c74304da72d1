"""`make gpu-test` checks the very ops that a GPU runs: its checks of ops, here on the kernels in their simulator."""

from dataclasses import replace

import pytest

from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.rig import Rig
from benchmarks.gpu.scale import TINY_SCALE, Scale
from benchmarks.gpu.shapes import TINY, TINY_WIDE
from service.execution.gpu.simulated_runtime import SimulatedRuntime


def run(group: str, scale: Scale) -> None:
    rig = Rig(SimulatedRuntime(simulate_kernels=True), scale, simulated=True)
    for check in CHECKS[group](rig):
        check.run()


@pytest.mark.parametrize("group", ["layers", "moves"])
def test_the_kernels_pass(group: str) -> None:
    run(group, TINY_SCALE)


def test_the_kernels_pass_short_attention() -> None:
    run("attention", replace(TINY_SCALE, prompt_lengths=(2,), op_shapes={"tiny": TINY, "tiny-wide": TINY_WIDE}))


@pytest.mark.full
@pytest.mark.parametrize("group", ["attention", "draws"])
def test_the_kernels_pass_whole(group: str) -> None:
    run(group, TINY_SCALE)
