"""An engine on real threads with the simulated data plane, and the outputs that its listener got."""

import queue
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.events import Finished, Gauges, Refused, RequestEvent, StepDone
from service.core.messages.ports import Copier
from service.core.messages.sampling import SamplingParams
from service.engine import Engine, Output, Runner, Turn
from service.execution.models.text import TextStage
from service.execution.models.tokenizer import Tokenizer, read_tokenizer
from tests.settings import core_settings, make_policy

PATIENCE_S = 60


class Inbox:
    """The outputs that a listener got, by request."""

    def __init__(self) -> None:
        self.batches: queue.Queue[list[Output]] = queue.Queue()
        self.outputs: dict[str, list[Output]] = defaultdict(list)
        self.steps: list[StepDone] = []
        self.gauges: list[Gauges] = []  # those that came without a step

    def until_ended(self, *request_ids: str) -> None:
        while not all(self._ended(request_id) for request_id in request_ids):
            self.hear()

    def hear(self) -> None:
        """Add one batch."""
        for output in self.batches.get(timeout=PATIENCE_S):
            if isinstance(output.event, StepDone):
                self.steps.append(output.event)
            elif isinstance(output.event, Gauges):
                self.gauges.append(output.event)
            elif isinstance(output.event, RequestEvent):
                self.outputs[output.event.request_id].append(output)

    def _ended(self, request_id: str) -> bool:
        heard = self.outputs[request_id]
        return bool(heard) and isinstance(heard[-1].event, Finished | Refused)

    def text(self, request_id: str) -> str:
        return "".join(output.text for output in self.outputs[request_id])

    def last(self, request_id: str) -> Finished | Refused:
        event = self.outputs[request_id][-1].event
        assert isinstance(event, Finished | Refused)
        return event


@pytest.fixture(scope="module")
def tokenizer(tiny_model_path: Path) -> Tokenizer:
    return read_tokenizer(tiny_model_path / "tokenizer.json")


@pytest.fixture
def start(tokenizer: Tokenizer) -> Iterator[Callable[..., tuple[Engine, Inbox]]]:
    engines: list[Engine] = []

    def start_engine(
        runner: Runner, copier: Copier | None = None, policy: str = "fcfs", **core: object
    ) -> tuple[Engine, Inbox]:
        sizes = core_settings(**{"device_blocks": 50, "max_num_seqs": 4, **core})  # type: ignore[arg-type]
        engine = Engine(Core(sizes, make_policy(policy)), runner, TextStage(tokenizer), copier, check_every_step=True)
        inbox = Inbox()
        engine.start(inbox.batches.put)
        engines.append(engine)
        return engine, inbox

    yield start_engine
    for engine in engines:
        engine.stop()


Start = Callable[..., tuple[Engine, Inbox]]


def turn(request_id: str, max_tokens: int = 5, stop: tuple[str, ...] = (), prompt: int = 3, **fields: object) -> Turn:
    values = {"sampling_params": SamplingParams(), "stop_tokens": frozenset(), "scope": None, **fields}
    return Turn(Submit(request_id, tuple(range(1, prompt + 1)), max_tokens, **values), stop)  # type: ignore[arg-type]
