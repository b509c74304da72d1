"""Decodes replayed from graphs draw what the same decodes draw when they are submitted op by op."""

import pytest

from allocator import Extent
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.execution.gpu.graphs import padded_sizes
from service.execution.gpu.runtime import CaptureError
from service.execution.gpu.simulated.faults import Delays
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from tests.execution.gpu.data_plane import device_blocks
from tests.execution.gpu.steps import PLAIN, SETTINGS, SLOTS, Device, expected, played, script

Model = tuple[ModelConfig, ModelWeights]
PROMPT = tuple(range(100, 112))
BLOCKS = [(Extent(0, 50 - 3 * slot, 1), Extent(0, 3 * slot, 1)) for slot in range(SLOTS)]


@pytest.fixture
def device(tiny: Model) -> Device:
    device = Device(*tiny)
    device.runner.warm_up()
    return device


def replays(device: Device, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that gets each graph that is replayed from now on."""
    replayed: list[object] = []
    replay = device.stream.replay
    monkeypatch.setattr(device.stream, "replay", lambda graph: (replayed.append(graph), replay(graph)))
    return replayed


def prompts(name: str = "seeded") -> StepPlan:
    """Return a step that begins a request in three slots."""
    opened = tuple(SlotOpening.of(slot, PROMPT[slot:], 12 - slot, SETTINGS[name]) for slot in range(3))
    rows = tuple(Row(slot, 0, PROMPT[slot:], BLOCKS[slot], draws_token=True) for slot in range(3))
    return StepPlan(0, opened, rows)


def decode(number: int, *slots: int) -> StepPlan:
    """Return step ``number`` after `prompts`, for these slots."""
    rows = (Row(slot, 11 + number - slot, None, BLOCKS[slot], draws_token=True) for slot in slots)
    return StepPlan(number, (), tuple(rows))


def test_sizes_are_few_and_hold_every_batch() -> None:
    assert padded_sizes(40) == [1, 2, 4, 8, 16, 24, 32, 40]
    assert padded_sizes(6) == [1, 2, 4, 6]
    assert padded_sizes(1) == [1]


def test_a_replayed_decode_draws_what_the_cpu_draws(
    tiny: Model, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = replays(device, monkeypatch)
    plays = played(*tiny, prompts(), *(decode(number, 2, 0, 1) for number in range(1, 12)), decode(12, 1))
    assert device.play(plays) == expected(plays)
    assert len(replayed) == 12
    assert len(set(map(id, replayed))) == 2


def test_replayed_decodes_and_other_steps_follow_each_other(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(*tiny, faults=Delays(4, 0.0003))
    device.runner.warm_up()
    replayed = replays(device, monkeypatch)
    plays = script(*tiny, 150, [*PLAIN * 5, SETTINGS["everything"]], seed=4)
    assert device.play(plays) == expected(plays)
    assert 10 < len(replayed) < 140


@pytest.mark.parametrize("name", ["penalized", "biased", "reported"])
def test_what_a_graph_cannot_do_is_not_replayed(
    tiny: Model, device: Device, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replayed = replays(device, monkeypatch)
    plays = played(*tiny, prompts(name), decode(1, 0, 1, 2))
    assert device.play(plays) == expected(plays)
    assert replayed == []


def test_warming_up_writes_to_no_block_of_the_pool(device: Device) -> None:
    assert not device_blocks(device.runtime, device.pools).any()


def test_padding_writes_to_no_other_block(tiny: Model, device: Device) -> None:
    device.play(played(*tiny, prompts()))
    before = device_blocks(device.runtime, device.pools)
    device.play(played(*tiny, prompts(), decode(1, 0, 1, 2))[1:])
    changed = (device_blocks(device.runtime, device.pools) != before).any(axis=(1, 2, 3)).nonzero()[0].tolist()
    assert changed == sorted(BLOCKS[slot][0].start for slot in range(3))


def test_a_device_that_captures_nothing_decodes_all_the_same(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(*tiny)

    def refuse(submit: object) -> None:
        raise CaptureError("not here")

    monkeypatch.setattr(device.stream, "capture", refuse)
    device.runner.warm_up()
    plays = played(*tiny, prompts(), decode(1, 0, 1, 2))
    assert device.play(plays) == expected(plays)
