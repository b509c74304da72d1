"""Shared prefixes on a simulated GPU, with the host a step ahead and everything late: the CPU's tokens, to the bit."""

import pytest

from tests.switching.conftest import Service, cheap
from tests.switching.test_gpu_races import FAULTS, GPUService
from tests.switching.test_shared_prefixes import reused, turns

pytestmark = pytest.mark.parametrize("service", ["float32"], indirect=True, scope="package")  # as a GPU has weights


@pytest.mark.parametrize("preset", ["groups+reuse+async", "full", "vllm-0.3.3"])
def test_prefixes_are_shared_on_a_gpu_and_change_nothing(service: Service, preset: str) -> None:
    unshared = service.answer(turns(None), device_blocks=400)
    gpu = GPUService(service.model, FAULTS["all is late"]())
    outcome = gpu.answer(turns(), preset, debug_preempt_every=5, device_blocks=60, wrap=cheap, paced=True)
    assert outcome.answers == unshared.answers
    assert reused(outcome) > 200
