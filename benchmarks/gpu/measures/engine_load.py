"""Users who chat with an engine in this process, all at once and without a pause: token ids in, token ids out.

All users live in the listener, on the engine's thread: it adds each answer to the user's history and sends the next
turn. When a conversation has grown to its full length, the user begins another one.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from service.core.core import Core
from service.core.messages.commands import CloseSession, Submit
from service.core.messages.events import CopyEnded, Finished, FinishReason, Preempted, Refused, StepDone, TokenOut
from service.core.messages.ports import Copier, Runner
from service.core.messages.sampling import SamplingParams
from service.engine import Engine, Output, Turn
from service.execution.models.text import TextStage

PATIENCE_S = 120  # time for all turns to end


@dataclass(frozen=True, slots=True)
class ChatLoad:
    """The turns that users send, with lengths in tokens. ``turns``: how many each user sends; None: without end.

    ``history``: a conversation begins with at most so many tokens, and ends before it would have twice as many.
    """

    users: int
    vocab_size: int
    history: int
    question: int
    answer: int
    turns: int | None = None
    exact: bool = False  # else lengths are drawn evenly from half to one and a half times these


@dataclass(slots=True)
class Observed:
    """What happened during the measured time."""

    steps: list[StepDone] = field(default_factory=list)
    copies: list[CopyEnded] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    gap_s: list[float] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    preemptions: int = 0


class EngineUnderLoad:
    """An engine and its users. Raises RuntimeError when a request is refused or fails, or the engine does."""

    def __init__(self, core: Core, runner: Runner, copier: Copier, load: ChatLoad) -> None:
        self._observed = Observed()
        self._load = load
        self._engine = Engine(core, runner, TextStage(_NoText()), copier)  # type: ignore[arg-type]
        self._users = {f"u{number}": _User(f"u{number}", load) for number in range(load.users)}
        self._all_done = threading.Event()
        self._fault = ""

    def run(self, warm_up_s: float = 0.0, measured_s: float | None = None) -> Observed:
        """Return what happens from ``warm_up_s`` on, for ``measured_s``; None: until all turns have ended."""
        self._engine.start(self._on_outputs)
        for user in self._users.values():
            self._ask(user)
        if warm_up_s:
            self._all_done.wait(warm_up_s)
            self._observed = Observed()
        self._all_done.wait(PATIENCE_S if measured_s is None else measured_s)
        observed, self._observed = self._observed, Observed()
        self._engine.stop()
        if self._fault or self._engine.failed:
            raise RuntimeError(self._fault or f"the engine failed: {self._engine.failed}")
        if measured_s is None and not self._all_done.is_set():
            raise RuntimeError(f"turns have not ended after {PATIENCE_S} s")
        return observed

    def _ask(self, user: "_User") -> None:
        for post in user.ask():
            self._engine.post(post)

    def _on_outputs(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._on_event(output.event)
        if self._engine.failed:
            self._all_done.set()

    def _on_event(self, event: object) -> None:
        observed = self._observed
        match event:
            case StepDone():
                observed.steps.append(event)
            case CopyEnded():
                observed.copies.append(event)
            case Preempted():
                observed.preemptions += 1
            case TokenOut():
                (observed.gap_s if event.index else observed.ttft_s).append(event.gap_s)
                self._users[_name(event.request_id)].history.append(event.token)
            case Refused():
                self._stop(f"{event.request_id} was refused: {event.message}")
            case Finished(reason=FinishReason.ERROR):
                self._stop(f"{event.request_id} failed")
            case Finished():
                observed.finished.append(event)
                self._end_turn(self._users[_name(event.request_id)])

    def _end_turn(self, user: "_User") -> None:
        if user.has_more():
            self._ask(user)
        elif not any(each.has_more() for each in self._users.values()):
            self._all_done.set()

    def _stop(self, fault: str) -> None:
        self._fault = fault
        self._all_done.set()


class _User:
    def __init__(self, name: str, load: ChatLoad) -> None:
        self.history: list[int] = []
        self._name, self._load = name, load
        self._random = Random(name)
        self._num_asked = self._conversation = 0

    def has_more(self) -> bool:
        return self._load.turns is None or self._num_asked < self._load.turns

    def ask(self) -> list[CloseSession | Turn]:
        load, posts = self._load, []
        question, answer = self._length(load.question), self._length(load.answer)
        if not self._num_asked or len(self.history) + question + answer > max(2 * load.history, question + answer):
            posts.append(CloseSession(self._session))
            self._conversation += 1
            self.history = self._tokens(self._random.randint(0, load.history))
        self.history += self._tokens(question)
        self._num_asked += 1
        sampling = SamplingParams(seed=self._num_asked, top_p=0.95)
        request = f"{self._name}-{self._num_asked}"
        submit = Submit(
            request, tuple(self.history), answer, sampling, frozenset(), ("", self._name), session=self._session
        )
        return [*posts, Turn(submit)]

    @property
    def _session(self) -> str:
        return f"{self._name}-{self._conversation}"

    def _length(self, mean: int) -> int:
        return mean if self._load.exact else self._random.randint(max(1, mean // 2), 3 * mean // 2)

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(self._load.vocab_size) for _ in range(count)]


def _name(request: str) -> str:
    return request.partition("-")[0]


class _NoText:
    """A tokenizer whose tokens have no text."""

    pending = False

    def decoder(self) -> "_NoText":
        return self

    def push(self, token_id: int) -> str:
        return ""

    def flush(self) -> str:
        return ""
