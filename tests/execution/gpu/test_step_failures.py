"""A failed step fails no other step; a lost device fails them all."""

import pytest

from allocator import Extent
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.errors import DeviceLostError, DeviceMemoryError
from service.execution.gpu.simulated.faults import (
    Armed,
    Delays,
    Failing,
    Several,
    Stall,
    exhausting_device,
    losing_device,
)
from service.execution.gpu.simulated.stream import SimulatedEvent
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.gpu.data_plane import PATIENCE_S
from tests.execution.gpu.steps import SETTINGS, Device, expected, played

Model = tuple[ModelConfig, ModelWeights]
PROMPT = tuple(range(100, 120))


def prompt(number: int, slot: int, first_block: int, name: str = "everything") -> StepPlan:
    """Return a step that begins a request."""
    opening = SlotOpening.of(slot, PROMPT[slot:], 20 - slot, SETTINGS[name])
    extents = (Extent(0, first_block, 1), Extent(0, 63 - first_block, 1))
    return StepPlan(number, (opening,), (Row(slot, 0, PROMPT[slot:], extents, draws_token=True),))


@pytest.mark.parametrize("work", ["linear", "paged_attention", "sample", "top_logprobs", "copy-in", "copy-out"])
def test_a_step_whose_work_fails_is_reported_and_the_next_is_right(tiny: Model, work: str) -> None:
    """It is right also if it was launched before, or takes over the slot and the blocks of the step that failed."""
    fault = Armed(Failing(lambda each: each.name == work, 0, 1))
    device = Device(*tiny, faults=fault)
    device.play(played(*tiny, prompt(0, 0, 1)))
    plays = played(*tiny, prompt(1, 1, 5), prompt(2, 2, 9), prompt(3, 1, 5), prompt(4, 0, 2))
    fault.arm()
    fails, next_one = (device.runner.launch(plan) for plan, _ in plays[:2])
    with pytest.raises(RuntimeError, match=f"injected: .*{work}"):
        fails()
    assert [next_one().drawn, *device.play(plays[2:])] == expected(plays[1:])


@pytest.mark.parametrize("work", ["linear", "copy-in", "put_tokens"])
def test_a_step_that_is_refused_is_reported_and_the_next_is_right(tiny: Model, work: str) -> None:
    fault = Armed(Failing(lambda each: each.name == work, 0, 1, refused=True))
    device = Device(*tiny, faults=fault)
    plays = played(*tiny, prompt(1, 1, 5), prompt(2, 1, 5), prompt(3, 2, 9), prompt(4, 0, 1))
    fault.arm()
    with pytest.raises(RuntimeError, match=f"injected: .*{work}"):
        device.runner.launch(plays[0][0])
    assert device.play(plays[1:]) == expected(plays[1:])


def test_steps_that_are_refused_in_a_row_do_not_outrun_the_device(tiny: Model) -> None:
    late, refusing = Delays(1, 0.01), Failing(lambda work: work.name == "linear", 0, 7, refused=True)
    fault = Armed(Several(late, refusing))
    device = Device(*tiny, faults=fault)
    fault.arm()
    for _ in range(7):  # more than twice round the ring
        with pytest.raises(RuntimeError, match=r"injected: .*linear"):
            device.runner.launch(prompt(1, 1, 5))
    plays = played(*tiny, prompt(2, 1, 5), prompt(3, 2, 9), prompt(4, 0, 1))
    assert device.play(plays) == expected(plays)


@pytest.mark.parametrize("refused", [True, False])
def test_a_step_without_memory_is_reported_as_that_and_the_next_is_right(tiny: Model, refused: bool) -> None:
    fault = Armed(exhausting_device(lambda work: work.name == "linear", 0, 1, refused=refused))
    device = Device(*tiny, faults=fault)
    plays = played(*tiny, prompt(1, 1, 5), prompt(2, 1, 5), prompt(3, 2, 9), prompt(4, 0, 1))
    fault.arm()
    with pytest.raises(DeviceMemoryError, match=r"simulated:0: memory asked for, 0 bytes of 1 GiB free: injected"):
        device.runner.launch(plays[0][0])()
    assert device.play(plays[1:]) == expected(plays[1:])


@pytest.mark.parametrize("fails", [False, True], ids=["the step is right", "the step fails"])
def test_a_step_without_an_event_at_its_end_keeps_its_memory_until_there_is_one(
    tiny: Model, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The ring goes round more than once, so no entry is stuck."""
    fault = Armed(Failing(lambda work: work.name == "put_tokens", 0, int(fails), refused=True))
    device = Device(*tiny, faults=fault)
    plays = played(*tiny, prompt(0, 0, 1), prompt(1, 1, 5), prompt(2, 2, 9), prompt(3, 3, 13), prompt(4, 0, 1))
    record, refusals = device.stream.record, iter([True, True])

    def record_sometimes() -> SimulatedEvent:
        if next(refusals, False):
            raise RuntimeError("no event to be had")
        return record()

    monkeypatch.setattr(device.stream, "record", record_sometimes)
    fault.arm()
    if fails:
        with pytest.raises(RuntimeError, match="injected"):
            device.runner.launch(plays[0][0])
    else:
        assert device.play(plays[:1]) == expected(plays[:1])
    assert next(refusals, None) is None
    assert device.play(plays[1:]) == expected(plays[1:])


def test_a_lost_device_fails_the_step_under_way_and_all_that_follow(tiny: Model) -> None:
    fault = Armed(losing_device(lambda work: work.name == "sample"))
    device = Device(*tiny, faults=fault)
    fault.arm()
    under_way = device.runner.launch(prompt(0, 0, 1))
    with pytest.raises(DeviceLostError, match="injected"):
        under_way()
    for _ in range(4):
        with pytest.raises(DeviceLostError, match="injected"):
            device.runner.launch(prompt(1, 1, 5))


def test_a_device_lost_while_a_result_is_waited_for_fails_the_step(tiny: Model) -> None:
    fault = Armed(Stall(lambda work: work.name == "sample"))
    device = Device(*tiny, faults=fault)
    fault.arm()
    under_way = device.runner.launch(prompt(0, 0, 1))
    device.runtime.lose("fell off the bus")
    with pytest.raises(DeviceLostError, match="fell off the bus"):
        under_way()


def test_no_more_steps_are_under_way_than_there_is_memory_for(tiny: Model) -> None:
    stall = Stall(lambda work: work.name == "sample")
    fault = Armed(stall)
    device = Device(*tiny, faults=fault)
    plays = played(*tiny, prompt(0, 0, 1), prompt(1, 1, 5), prompt(2, 2, 9), prompt(3, 3, 13))
    fault.arm()
    under_way = [device.runner.launch(plan) for plan, _ in plays[:3]]
    assert stall.reached(PATIENCE_S)
    with pytest.raises(AssertionError, match="too many steps under way"):
        device.runner.launch(plays[3][0])
    stall.release()
    assert [result().drawn for result in under_way] == expected(plays[:3])
    assert device.play(plays[3:]) == expected(plays[3:])
