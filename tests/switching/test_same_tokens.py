"""Whatever is preempted, copied or dropped: the same tokens with the same log-probabilities, to the last bit.

Exact equality is right, also where batches change: the CPU kernels give a sequence the same numbers whatever else is
in the batch and however its prompt is split into chunks. Freed blocks are filled with NaN throughout.
"""

from collections.abc import Callable
from random import Random
from threading import Timer

import pytest

from service.core.messages.events import Finished
from service.core.messages.plan import CopyResult
from service.core.messages.ports import Copier, Runner
from service.core.switching.mechanisms import PRESETS
from service.execution.copier import CPUCopier
from service.execution.runner import CPURunner
from tests.copiers import Cheap
from tests.switching.conftest import DeepRunner, Outcome, Service, Wrap, cheap, conversations, deep, plain

COUNT = 6
TOKENS = 40
LAYERS_AND_SIDES = 2  # of the tiny model: copies of one block, by layer


@pytest.fixture(scope="module")
def undisturbed(service: Service) -> Outcome:
    return service.answer(conversations(COUNT, TOKENS))


class LateNews(Cheap):
    """A copier whose reports are late by seeded chance, and so come in any order."""

    def __init__(self, inner: Copier, seed: int) -> None:
        super().__init__(inner)
        self._random = Random(seed)

    def start(self, report: Callable[[CopyResult], None]) -> None:
        super().start(lambda result: Timer(self._random.random() * 0.004, report, (result,)).start())


def late(runner: CPURunner, copier: CPUCopier) -> tuple[Runner, Copier]:
    return runner, LateNews(copier, seed=3)


def late_and_deep(runner: CPURunner, copier: CPUCopier) -> tuple[Runner, Copier]:
    return DeepRunner(runner), LateNews(copier, seed=4)


@pytest.mark.parametrize("every", [1, 7, 64])
@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("wrap", [late, late_and_deep])
def test_eviction_every_so_many_tokens_changes_nothing(
    service: Service, undisturbed: Outcome, preset: str, every: int, wrap: Wrap
) -> None:
    length = 70 if every == 64 else TOKENS
    turns = conversations(COUNT, length)
    expected = service.answer(turns) if every == 64 else undisturbed
    outcome = service.answer(turns, preset, debug_preempt_every=every, wrap=wrap)
    assert outcome.answers == expected.answers
    assert outcome.preemptions()["debug"] == COUNT * ((length - 1) // every)
    assert_kv_moved(outcome, preset, length, every)


def assert_kv_moved(outcome: Outcome, preset: str, length: int, every: int) -> None:
    """Check that each eviction moved all that the preset has to move, and no more."""
    mechanisms = PRESETS[preset]
    if not mechanisms.swap:
        assert outcome.blocks("out") == outcome.blocks("in") == 0
        assert outcome.dropped() == {"no_swap": sum(kv for kv in evictions(length, every))}
        return
    whole = [-(-kv // 16) for kv in evictions(length, every)]
    assert outcome.blocks("in") == sum(whole)
    out = sum(whole)
    if mechanisms.reuse:
        out = sum(new_blocks(length, every))
        assert every == 64 or out < sum(whole)  # with one eviction in an answer there is nothing to reuse
    assert outcome.blocks("out") == out
    assert not outcome.dropped()


def evictions(length: int, every: int) -> list[int]:
    """Return the tokens with KV at each eviction: the newest token has none yet."""
    prompts = [len(turn.prompt) for turn in conversations(COUNT, length)]
    return [prompt + drawn - 1 for prompt in prompts for drawn in range(every, length, every)]


def new_blocks(length: int, every: int) -> list[int]:
    """Return the blocks that are not whole on the host at each eviction."""
    blocks = []
    for turn in conversations(COUNT, length):
        mirrored = 0
        for drawn in range(every, length, every):
            computed = len(turn.prompt) + drawn - 1
            blocks.append(-(-computed // 16) - mirrored // 16)
            mirrored = computed
    return blocks


@pytest.mark.parametrize("policy", ["random", "markov", "priority"])
@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"observe"}))
@pytest.mark.parametrize("wrap", [plain, deep])
def test_scarce_memory_and_changing_ranks_change_nothing(
    service: Service, preset: str, policy: str, wrap: Wrap
) -> None:
    turns = conversations(16, 50)
    expected = service.answer(turns, device_blocks=400)
    outcome = service.answer(
        turns, preset, policy=policy, update_every=6, device_blocks=40, host_blocks=120, slots=6, budget=32, wrap=wrap
    )
    assert outcome.answers == expected.answers
    assert policy == "priority" or sum(outcome.preemptions().values()) > 5
    assert all(isinstance(end, Finished) for end in outcome.ends.values())


def test_a_layout_split_by_layer_takes_many_copies_for_one(service: Service) -> None:
    turns = conversations(COUNT, TOKENS)
    split = service.answer(turns, "vllm-0.3.3", debug_preempt_every=7, wrap=cheap)
    groups = service.answer(turns, "groups", debug_preempt_every=7, wrap=cheap)
    layers = service.model.config.num_layers
    assert split.pieces("out") == split.blocks("out") * layers * LAYERS_AND_SIDES
    assert groups.pieces("out") < groups.blocks("out")
    assert groups.blocks("out") == split.blocks("out")
