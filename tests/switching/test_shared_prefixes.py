"""With and without sharing: the same tokens with the same log-probabilities, to the last bit.

The turns have two system prompts, questions that begin alike, branches that leave a conversation in its middle, and
four choices of one prompt. They come at once, or while others run. Freed blocks are filled with NaN throughout.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from allocator import Extent
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import FinishReason
from service.core.messages.plan import StepPlan, StepResult
from service.core.messages.ports import Copier, Runner
from service.core.messages.sampling import SamplingParams
from service.core.scheduler import Scheduler
from service.core.state.prefixes import Agreement, PrefixTree
from service.core.switching.mechanisms import PRESETS
from service.core.switching.poison import Poison
from service.execution.copier import CPUCopier
from service.execution.runner import CPURunner
from tests.switching.conftest import Outcome, Service, ServiceFailedError, Wrap, cheap, deep

TOKENS = 20
SCOPE = ("tenant",)


def system(number: int, length: int) -> tuple[int, ...]:
    return tuple((number * 31 + i * 3) % 256 for i in range(length))


def prompts() -> list[tuple[int, ...]]:
    """Return prompts that agree with others in all the ways in which they can."""
    first, second = system(1, 70), system(2, 33)
    questions = [first + system(n, 5 + 9 * n) for n in range(3, 6)]
    branches = [questions[2][:90] + system(7, 12), questions[2][:96] + system(8, 3)]
    short = [(*second, n) for n in range(3)]
    return [*questions, *branches, *short, first, *[second + system(9, 20)] * 4]


def turns(scope: tuple[str, ...] | None = SCOPE) -> list[Submit]:
    def turn(number: int, prompt: tuple[int, ...]) -> Submit:
        sampling = SamplingParams(temperature=float(number % 2), top_p=0.9, seed=number, logprobs=2)
        return Submit(f"c{number}", prompt, TOKENS, sampling, frozenset(), scope, priority=number % 3)

    return [turn(number, prompt) for number, prompt in enumerate(prompts())]


@pytest.fixture(scope="module")
def unshared(service: Service) -> Outcome:
    outcome = service.answer(turns(None), device_blocks=400)
    assert not reused(outcome)
    return outcome


def reused(outcome: Outcome) -> int:
    return sum(end.usage.reused for end in outcome.ends.values())


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("wrap", [cheap, deep])
@pytest.mark.parametrize("paced", [False, True])
def test_eviction_of_tails_and_prefixes_changes_nothing(
    service: Service, unshared: Outcome, preset: str, every: int, wrap: Wrap, paced: bool
) -> None:
    outcome = service.answer(turns(), preset, debug_preempt_every=every, wrap=wrap, paced=paced)
    assert outcome.answers == unshared.answers
    assert reused(outcome) > 200
    assert outcome.preemptions()["debug"] >= len(turns()) * ((TOKENS - 1) // every)


@pytest.mark.parametrize("policy", ["random", "priority"])
@pytest.mark.parametrize("preset", sorted(set(PRESETS) - {"observe"}))
@pytest.mark.parametrize("wrap", [cheap, deep])
def test_scarce_memory_and_changing_ranks_change_nothing(
    service: Service, unshared: Outcome, preset: str, policy: str, wrap: Wrap
) -> None:
    scarce = {"device_blocks": 24, "host_blocks": 60, "slots": 5, "budget": 24, "update_every": 4}
    outcome = service.answer(turns(), preset, policy=policy, wrap=wrap, paced=True, **scarce)  # type: ignore[arg-type]
    assert outcome.answers == unshared.answers
    assert reused(outcome) > 100


@pytest.mark.parametrize("seed", range(6))
def test_cancelled_turns_leave_the_others_as_they_are(service: Service, unshared: Outcome, seed: int) -> None:
    random = Random(seed)
    cancelled = random.sample(range(len(turns())), 6)
    cancel_at = {f"c{number}": random.randrange(4) for number in cancelled}
    outcome = service.answer(
        turns(), cancel_at=cancel_at, debug_preempt_every=5, budget=24, device_blocks=40, paced=True
    )
    for name, answer in unshared.answers.items():
        got = outcome.answers[name]
        assert got == answer[: len(got)]
        assert name in cancel_at or len(got) == TOKENS


class FailingRunner:
    """A device some of whose steps fail, before they have written anything or after."""

    def __init__(self, inner: Runner, seed: int) -> None:
        self.depth = inner.depth
        self._inner = inner
        self._random = Random(seed)
        self.num_failed = 0

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        fails = len(plan.rows) > 1 and self._random.random() < 0.15
        if fails and self._random.random() < 0.5:
            return self._fail
        result = self._inner.launch(plan)

        def run() -> StepResult:
            computed = result()
            return self._fail() if fails else computed

        return run

    def _fail(self) -> StepResult:
        self.num_failed += 1
        raise RuntimeError("this step was to fail")

    def poison(self, extents: Sequence[Extent]) -> None:
        self._inner.poison(extents)


@pytest.mark.parametrize("inner", [cheap, deep])
@pytest.mark.parametrize("seed", range(3))
def test_a_failed_step_ends_its_own_turns_and_what_they_computed_is_not_used(
    service: Service, unshared: Outcome, seed: int, inner: Wrap
) -> None:
    _check_failed_steps(service, unshared, seed, inner)


def _check_failed_steps(service: Service, unshared: Outcome, seed: int, inner: Wrap) -> None:
    runners = []

    def failing(runner: CPURunner, copier: CPUCopier) -> tuple[Runner, Copier]:
        wrapped, cheap_copier = inner(runner, copier)
        runners.append(FailingRunner(wrapped, seed))
        return runners[0], cheap_copier

    # Each turn twice, so that some come to prefixes that a failed step was to compute.
    again = [*turns(), *(replace(turn, request_id=f"{turn.request_id} again") for turn in turns())]
    outcome = service.answer(again, wrap=failing, slots=3, budget=24, device_blocks=60, paced=True)
    assert runners[0].num_failed
    for name, answer in unshared.answers.items():
        for other in (name, f"{name} again"):
            got = outcome.answers[other]
            assert got == answer[: len(got)]
            assert len(got) == TOKENS or outcome.ends[other].reason is FinishReason.ERROR


def readers_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who need a prefix compute it side by side, each from where it stood."""
    monkeypatch.setattr(Scheduler, "_is_first", lambda self, request, prefixes: True)


def splits_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a split has handed over looks like blocks with a new owner, and is spoiled."""
    monkeypatch.setattr(Poison, "split", lambda self, number, head: None)


def tokens_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A prompt that begins as another is taken for equal to it for two more blocks."""
    find = PrefixTree.find

    def trusting(self: PrefixTree, scope: tuple[str, ...], packed: bytes) -> Agreement:
        found = find(self, scope, packed)
        limit = len(packed) // 4 - 1
        return replace(found, tokens=min(found.tokens + 32, limit)) if found.child is not None else found

    monkeypatch.setattr(PrefixTree, "find", trusting)


def written_prefixes_are_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed step ends its turns, and the prefixes that it was to compute stay."""
    abandon = Core.abandon

    def trusting(self: Core, number: int, now: float) -> None:
        for planned in self._planned.values():
            planned.rows[:] = [(request, replace(row, start=10**6)) for request, row in planned.rows]
        abandon(self, number, now)

    monkeypatch.setattr(Core, "abandon", trusting)


@pytest.mark.parametrize("control", [readers_do_not_wait, splits_are_not_told, tokens_are_not_compared])
def test_a_broken_rule_is_noticed(
    service: Service, unshared: Outcome, control: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    control(monkeypatch)
    try:
        outcome = service.answer(turns(), debug_preempt_every=7, wrap=cheap, paced=True)
    except ServiceFailedError:
        return  # an invariant was found broken
    assert outcome.answers != unshared.answers


def test_kv_of_a_failed_step_that_was_trusted_is_noticed(
    service: Service, unshared: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_prefixes_are_trusted(monkeypatch)
    seeds = range(3)
    with pytest.raises(AssertionError):
        list(map(partial(_check_failed_steps, service, unshared, inner=cheap), seeds))
