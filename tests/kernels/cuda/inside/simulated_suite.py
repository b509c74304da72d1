"""`make gpu-test` checks the ops that a GPU runs; these tests run its checks on the kernels in their simulator."""

from dataclasses import replace

import pytest

from benchmarks.gpu.checks import CHECKS
from benchmarks.gpu.scale import TINY_SCALE, Scale
from benchmarks.gpu.shapes import HEADS, TINY, TINY_WIDE
from benchmarks.gpu.under_test import GPUUnderTest
from service.execution.gpu.simulated.runtime import SimulatedRuntime

SMALL = replace(TINY_SCALE, op_shapes={"tiny": TINY, "tiny-wide": TINY_WIDE})  # other heads take minutes


def run(group: str, scale: Scale) -> None:
    gpu = GPUUnderTest(SimulatedRuntime(simulate_kernels=True), scale, simulated=True)
    for check in CHECKS[group](gpu):
        check.run()


@pytest.mark.parametrize("group", ["layers", "moves"])
def test_the_kernels_pass(group: str) -> None:
    run(group, TINY_SCALE)


def test_the_kernels_pass_short_attention() -> None:
    run("attention", replace(SMALL, prompt_lengths=(2,)))


@pytest.mark.full
def test_the_kernels_pass_attention_of_other_heads() -> None:
    run("attention", replace(TINY_SCALE, prompt_lengths=(17,), op_shapes=HEADS))


@pytest.mark.full
@pytest.mark.parametrize("group", ["attention", "draws"])
def test_the_kernels_pass_whole(group: str) -> None:
    run(group, SMALL)
