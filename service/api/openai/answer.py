"""The form of an answer: what its route decides and the way it comes in does not."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.api.openai.responses import Head, UsageCounts
from service.core.messages.events import Finished, TokenOut
from service.engine import Output
from service.execution.models.tokenizer import Tokenizer

Json = Mapping[str, Any]

# JSON has no infinity; OpenAI's own stand-in for "impossible".
IMPOSSIBLE_LOGPROB = -9999.0


@dataclass(slots=True)
class CollectedChoice:
    """One choice of a plain answer while it comes in. ``tokens``: those with log-probabilities."""

    texts: list[str] = field(default_factory=list)
    tokens: list[TokenOut] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.texts)

    def add(self, output: Output) -> None:
        """Take one more output in."""
        self.texts.append(output.text)
        match output.event:
            case TokenOut(logprobs=logprobs) if logprobs is not None:
                self.tokens.append(output.event)
            case Finished(reason=reason):
                self.finish_reason = reason.value


@dataclass(slots=True)
class AnswerFormat(ABC):
    """How one request's answer is written, as chunks of a stream or as a whole."""

    head: Head
    tokenizer: Tokenizer

    @abstractmethod
    def opening(self) -> Iterator[tuple[int, Json]]:
        """The chunks before the first output, each with its choice."""

    @abstractmethod
    def chunks(self, choice: int, output: Output) -> Iterator[Json]:
        """The chunks that an output makes, often none. Called in order."""

    @abstractmethod
    def usage_chunk(self, usage: UsageCounts) -> Json:
        """The last chunk, for those who asked for it."""

    @abstractmethod
    def whole(self, answers: Sequence[CollectedChoice], usage: UsageCounts) -> Json:
        """Everything at once."""


def json_logprob(logprob: float) -> float:
    """A log-probability that JSON can hold."""
    return logprob if math.isfinite(logprob) else IMPOSSIBLE_LOGPROB
