"""The form of an answer, which depends on its route but not on whether it is streamed."""

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
    """One choice of an answer that is not streamed, while it arrives. ``tokens``: those with log-probabilities."""

    texts: list[str] = field(default_factory=list)
    tokens: list[TokenOut] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.texts)

    def add(self, output: Output) -> None:
        """Add the next output."""
        self.texts.append(output.text)
        match output.event:
            case TokenOut(logprobs=logprobs) if logprobs is not None:
                self.tokens.append(output.event)
            case Finished(reason=reason):
                self.finish_reason = reason.value


@dataclass(slots=True)
class AnswerFormat(ABC):
    """Writes one request's answer, as chunks of a stream or as a whole."""

    head: Head
    tokenizer: Tokenizer

    @abstractmethod
    def opening(self) -> Iterator[tuple[int, Json]]:
        """Yield the chunks before the first output, each with its choice."""

    @abstractmethod
    def chunks(self, choice: int, output: Output) -> Iterator[Json]:
        """Yield the chunks that an output makes, often none. Called in order."""

    @abstractmethod
    def usage_chunk(self, usage: UsageCounts) -> Json:
        """Return the last chunk, for requests that ask for it."""

    @abstractmethod
    def whole(self, answers: Sequence[CollectedChoice], usage: UsageCounts) -> Json:
        """Return the whole answer."""


def json_logprob(logprob: float) -> float:
    """Return a log-probability that JSON can hold."""
    return logprob if math.isfinite(logprob) else IMPOSSIBLE_LOGPROB
