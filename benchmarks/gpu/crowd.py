"""Users who talk to an engine in this process, all at once and without a pause: token ids in, token ids out.

The listener, on the engine's thread, plays all users: what one is answered it adds to its history, and asks on. When a
conversation has grown to its full length, another takes its user's place.
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

PATIENCE_S = 120  # for turns to end


@dataclass(frozen=True, slots=True)
class Talk:
    """What users say, in tokens. ``turns``: each asks so often and falls silent; None: for ever.

    ``history``: a conversation begins with up to so many, and ends when it would have twice that.
    """

    users: int
    vocab_size: int
    history: int
    question: int
    answer: int
    turns: int | None = None
    exact: bool = False  # else lengths are spread evenly from half to one and a half of these


@dataclass(slots=True)
class Seen:
    """What happened while it counted."""

    steps: list[StepDone] = field(default_factory=list)
    copies: list[CopyEnded] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    gap_s: list[float] = field(default_factory=list)
    finished: list[Finished] = field(default_factory=list)
    preemptions: int = 0


class Crowd:
    """An engine and its users. Raises RuntimeError when a request is refused or fails, or the engine does."""

    def __init__(self, core: Core, runner: Runner, copier: Copier, talk: Talk) -> None:
        self.seen = Seen()
        self._talk = talk
        self._engine = Engine(core, runner, TextStage(_NoText()), copier)  # type: ignore[arg-type]
        self._users = {f"u{number}": _User(f"u{number}", talk) for number in range(talk.users)}
        self._silent = threading.Event()
        self._fault = ""

    def run(self, warm_up_s: float = 0.0, measured_s: float | None = None) -> Seen:
        """What was seen from ``warm_up_s`` on, for ``measured_s``; None: until all users are silent."""
        self._engine.start(self._listen)
        for user in self._users.values():
            self._ask(user)
        if warm_up_s:
            self._silent.wait(warm_up_s)
            self.seen = Seen()
        self._silent.wait(PATIENCE_S if measured_s is None else measured_s)
        seen, self.seen = self.seen, Seen()
        self._engine.stop()
        if self._fault or self._engine.failed:
            raise RuntimeError(self._fault or f"the engine failed: {self._engine.failed}")
        if measured_s is None and not self._silent.is_set():
            raise RuntimeError(f"turns have not ended after {PATIENCE_S} s")
        return seen

    def _ask(self, user: "_User") -> None:
        for post in user.ask():
            self._engine.post(post)

    def _listen(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self._hear(output.event)
        if self._engine.failed:
            self._silent.set()

    def _hear(self, event: object) -> None:
        seen = self.seen
        match event:
            case StepDone():
                seen.steps.append(event)
            case CopyEnded():
                seen.copies.append(event)
            case Preempted():
                seen.preemptions += 1
            case TokenOut():
                (seen.gap_s if event.index else seen.ttft_s).append(event.gap_s)
                self._users[_name(event.request_id)].history.append(event.token)
            case Refused():
                self._stop(f"{event.request_id} was refused: {event.message}")
            case Finished(reason=FinishReason.ERROR):
                self._stop(f"{event.request_id} failed")
            case Finished():
                seen.finished.append(event)
                self._end_turn(self._users[_name(event.request_id)])

    def _end_turn(self, user: "_User") -> None:
        if user.has_more():
            self._ask(user)
        elif not any(each.has_more() for each in self._users.values()):
            self._silent.set()

    def _stop(self, fault: str) -> None:
        self._fault = fault
        self._silent.set()


class _User:
    def __init__(self, name: str, talk: Talk) -> None:
        self.history: list[int] = []
        self._name, self._talk = name, talk
        self._random = Random(name)
        self._asked = self._conversation = 0

    def has_more(self) -> bool:
        return self._talk.turns is None or self._asked < self._talk.turns

    def ask(self) -> list[CloseSession | Turn]:
        talk, posts = self._talk, []
        question, answer = self._length(talk.question), self._length(talk.answer)
        if not self._asked or len(self.history) + question + answer > max(2 * talk.history, question + answer):
            posts.append(CloseSession(self._session))
            self._conversation += 1
            self.history = self._tokens(self._random.randint(0, talk.history))
        self.history += self._tokens(question)
        self._asked += 1
        sampling = SamplingParams(seed=self._asked, top_p=0.95)
        request = f"{self._name}-{self._asked}"
        submit = Submit(
            request, tuple(self.history), answer, sampling, frozenset(), ("", self._name), session=self._session
        )
        return [*posts, Turn(submit)]

    @property
    def _session(self) -> str:
        return f"{self._name}-{self._conversation}"

    def _length(self, mean: int) -> int:
        return mean if self._talk.exact else self._random.randint(max(1, mean // 2), 3 * mean // 2)

    def _tokens(self, count: int) -> list[int]:
        return [self._random.randrange(self._talk.vocab_size) for _ in range(count)]


def _name(request: str) -> str:
    return request.partition("-")[0]


class _NoText:
    """A tokenizer whose tokens have none."""

    pending = False

    def decoder(self) -> "_NoText":
        return self

    def push(self, token_id: int) -> str:
        return ""

    def flush(self) -> str:
        return ""
