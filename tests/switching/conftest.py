"""The engine on the real data plane of the tiny model, with real copies between two pools."""

import queue
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from allocator import Extent
from service.core.core import Core
from service.core.messages.commands import Cancel, Submit
from service.core.messages.events import CopyEnded, Event, Finished, KVDropped, Preempted, TokenOut
from service.core.messages.plan import StepPlan, StepResult
from service.core.messages.ports import Copier, Runner
from service.core.messages.sampling import SamplingParams, TokenLogprobs
from service.core.switching.mechanisms import PRESETS
from service.engine import Engine, Output, Turn
from service.execution.copier import CPUCopier
from service.execution.kv import KVFormat, KVPools
from service.execution.models.dense_weights import HostWeights
from service.execution.models.loading import LoadedModel, open_model
from service.execution.models.packed_weights import PackedWeights
from service.execution.models.text import TextStage
from service.execution.models.weights import is_packed
from service.execution.runner import CPURunner
from tests.copiers import Cheap
from tests.settings import core_settings, make_policy

PATIENCE_S = 60
Token = tuple[int, TokenLogprobs | None]
Plane = tuple[Any, Any]  # a runner and a copier
Wrap = Callable[[Any, Any], tuple[Runner, Copier]]


@dataclass
class Outcome:
    """Answers with their log-probabilities, by request, and everything that happened."""

    answers: dict[str, list[Token]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, Finished] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def take(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            event = output.event
            self.events.append(event)
            if isinstance(event, TokenOut):
                self.answers[event.request_id].append((event.token, event.logprobs))
            elif isinstance(event, Finished):
                self.ends[event.request_id] = event

    def preemptions(self) -> Counter[str]:
        """Return how many there were, by reason."""
        return Counter(event.reason for event in self.events if isinstance(event, Preempted))

    def blocks(self, direction: str) -> int:
        """Return the blocks copied in a direction."""
        ends = [event for event in self.events if isinstance(event, CopyEnded) and not event.failed]
        return sum(copy.blocks for copy in ends if copy.direction == direction)

    def pieces(self, direction: str) -> int:
        """Return the number of contiguous copies in a direction."""
        ends = [event for event in self.events if isinstance(event, CopyEnded) and not event.failed]
        return sum(copy.pieces for copy in ends if copy.direction == direction)

    def dropped(self) -> Counter[str]:
        """Return the tokens whose KV was dropped, by reason."""
        tokens: Counter[str] = Counter()
        for event in self.events:
            if isinstance(event, KVDropped):
                tokens[event.reason] += event.tokens
        return tokens


class ServiceFailedError(Exception):
    """The engine's loop failed after this outcome."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.ends)
        self.outcome = outcome


def plain(runner: Runner, copier: Copier) -> tuple[Runner, Copier]:
    """Return the copier itself."""
    return runner, copier


def cheap(runner: Runner, copier: Copier) -> tuple[Runner, Copier]:
    """Return a copier whose copies are always worth it."""
    return runner, Cheap(copier)


class DeepRunner:
    """The CPU's data plane at depth 1: the next step is planned while one runs, and runs when that is over."""

    depth = 1

    def __init__(self, inner: CPURunner) -> None:
        self._inner = inner

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        result = self._inner.run(plan)
        return lambda: result

    def poison(self, extents: Sequence[Extent]) -> None:
        self._inner.poison(extents)


def deep(runner: CPURunner, copier: CPUCopier) -> tuple[Runner, Copier]:
    """Return a runner that is a step ahead."""
    return DeepRunner(runner), copier


@dataclass
class Service:
    """Runs conversations to their end."""

    model: LoadedModel

    def answer(
        self,
        turns: list[Submit],
        preset: str = "groups+reuse+async",
        *,
        policy: str = "fcfs",
        update_every: int = 5,
        device_blocks: int = 200,
        host_blocks: int = 200,
        slots: int = 8,
        budget: int = 64,
        group: int = 4,
        wrap: Wrap = plain,
        cancel_at: Mapping[str, int] | None = None,
        paced: bool = False,
        **settings: object,
    ) -> Outcome:
        """Answer all turns on a new engine: at once, or ``paced``, one more whenever something has come out.

        ``cancel_at``: after which token of its answer a turn is.
        """
        by_layer = not PRESETS[preset].groups
        runner, copier = wrap(*self.data_plane(device_blocks, host_blocks, slots, budget, by_layer))
        core = Core(
            core_settings(
                device_blocks=device_blocks,
                host_blocks=host_blocks,
                block_group_size=group,
                max_num_seqs=slots,
                max_num_batched_tokens=budget,
                mechanisms=PRESETS[preset],
                **settings,  # type: ignore[arg-type]
            ),
            make_policy(policy, update_every=update_every),
        )
        engine = Engine(core, runner, TextStage(self.model.tokenizer), copier, check_every_step=True)
        return self._run(engine, turns, cancel_at or {}, paced=paced)

    def data_plane(self, device_blocks: int, host_blocks: int, slots: int, budget: int, by_layer: bool) -> Plane:
        """Return a runner, and the copier of its pools."""
        is_plain = not is_packed(self.model.weights)
        kv_format = KVFormat.plain(self.model.config) if is_plain else KVFormat.padded(self.model.config, "bfloat16")
        pools = KVPools.allocate(kv_format, device_blocks, host_blocks)
        sizes = {"num_slots": slots, "max_batched_tokens": budget}
        runner = CPURunner(self.model.config, self.model.weights, pools=pools, **sizes)
        return runner, CPUCopier(runner.pools, by_layer=by_layer)

    def _run(self, engine: Engine, turns: list[Submit], cancel_at: Mapping[str, int], *, paced: bool) -> Outcome:
        outcome, batches = Outcome(), queue.Queue[list[Output]]()
        waiting = iter(turns)

        def post(count: int) -> None:
            for turn in islice(waiting, count):
                engine.post(Turn(turn))
                if cancel_at.get(turn.request_id) == 0:
                    engine.post(Cancel(turn.request_id))

        engine.start(batches.put)
        post(1 if paced else len(turns))
        while len(outcome.ends) < len(turns) and engine.failed is None:
            outputs = batches.get(timeout=PATIENCE_S)
            outcome.take(outputs)
            post(1)
            for event in (output.event for output in outputs):
                if isinstance(event, TokenOut) and cancel_at.get(event.request_id) == event.index + 1:
                    engine.post(Cancel(event.request_id))
        engine.stop()
        if engine.failed is not None:
            raise ServiceFailedError(outcome) from engine.failed
        return outcome


@pytest.fixture(scope="package", params=["float32", "as stored"])
def service(request: pytest.FixtureRequest, tiny_model_path: Path) -> Service:
    """Return the service of the tiny model, operation by operation and as a compiled program."""
    weights = HostWeights() if request.param == "float32" else PackedWeights("auto")
    return Service(open_model(tiny_model_path).load(weights))


def conversations(count: int, max_tokens: int = 40, **fields: object) -> list[Submit]:
    """Return turns of different lengths, every other one sampled, all with log-probabilities."""

    def turn(number: int) -> Submit:
        prompt = tuple((number * 7 + i * (1 + number % 5)) % 256 for i in range(10 + 11 * number))
        sampling = SamplingParams(temperature=float(number % 2), top_p=0.9, seed=number, logprobs=2)
        values = {"priority": number % 3, "scope": ("tenant", f"u{number}"), **fields}
        return Submit(f"c{number}", prompt, max_tokens, sampling, frozenset(), **values)  # type: ignore[arg-type]

    return [turn(number) for number in range(count)]
