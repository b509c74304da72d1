"""The types of the protocol as users of the clients see them, whatever the transport.

`Message`, `Model` and `Usage` are the clients' versions of types that the server also has; neither imports the other.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict, Unpack


class Message(TypedDict):
    """One message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatOptions(TypedDict, total=False):
    """Options of a request. The server has a default for each one that is left out.

    ``user`` keeps the KV of earlier turns findable: only requests of one key and one user share it. Lower ``priority``
    goes first. ``service_tier`` *flex* gets what all other work leaves. ``temperature`` 0 is greedy.
    """

    model: str
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    stop: str | list[str]
    seed: int
    user: str
    priority: int
    service_tier: Literal["auto", "default", "flex"]
    ignore_eos: bool


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts of a request. ``cached_tokens`` tokens of the prompt had KV from an earlier turn."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Queued:
    """Where a request waits for its first step: its place from 1, or 0 when it waits no more.

    ``reason``: the server's word for what it waits for, such as ``slot`` or ``room``. ``estimate_s``: seconds it may
    still take. Either is None if unknown.
    """

    position: int
    reason: str | None = None
    estimate_s: float | None = None

    def __str__(self) -> str:
        about = "" if self.estimate_s is None else f", about {max(1.0, self.estimate_s):.0f} s"
        return f"waiting, {_ordinal(self.position)} in the queue{about}"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a streamed answer. The last ones carry ``finish_reason`` and ``usage``, often without text.

    Those before the first text may say where the request is ``queued``.
    """

    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    request_id: str | None = None
    queued: Queued | None = None


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer."""

    text: str
    finish_reason: str | None
    usage: Usage | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Model:
    """A model that the server offers. ``max_model_len`` bounds prompt and answer together; None if unknown."""

    id: str
    max_model_len: int | None


class Transport(Protocol):
    """A way to a server that streams the answer to a history."""

    def chat(self, messages: Sequence[Message], **options: Unpack[ChatOptions]) -> AsyncGenerator[Chunk, None]:
        """Stream the answer to ``messages``; closing the generator cancels at the server."""
        ...


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
