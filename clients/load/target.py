"""A way to a server under test, as the driver sees it. `openai.py` and `chat_stream.py` implement it."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Protocol

from clients.errors import (
    APIError,
    ClientError,
    ConnectionLostError,
    ServerTimeoutError,
    UnreachableError,
)
from clients.protocol import Message


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a turn asks for besides an answer. ``extra`` holds fields that go into the request as they are."""

    model: str
    max_tokens: int
    temperature: float = 0.0
    priority: int | None = None
    user: str | None = None
    service_tier: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the request's fields except ``user``; those of ``extra`` take precedence."""
        known: dict[str, Any] = {"model": self.model, "max_tokens": self.max_tokens, "temperature": self.temperature}
        if self.priority is not None:
            known["priority"] = self.priority
        if self.service_tier is not None:
            known["service_tier"] = self.service_tier
        return {**known, **self.extra}


@dataclass(slots=True)
class ServerFigures:
    """What the server reports about a turn, None where it is silent. `TurnRecord` has fields of the same names."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reused: int | None = None
    recomputed: int | None = None
    preemptions: int | None = None
    swapped_bytes: int | None = None
    queue_s: float | None = None
    stall_s: float | None = None


class TargetSession(Protocol):
    """One conversation with a target. Its errors are `ClientError`."""

    def answer(self, history: list[Message], request: TurnRequest, figures: ServerFigures) -> AsyncGenerator[str, None]:
        """Send the last message of ``history`` and yield the non-empty pieces of the answer as they come.

        Closing the generator in mid-answer cancels the turn. What the server reports goes into ``figures``.
        """
        ...

    def vanish(self) -> None:
        """Break the connection off, like a client whose machine dies."""
        ...

    async def close(self) -> None:
        """End the conversation in the way that the protocol provides."""
        ...


class Target(Protocol):
    """A server and the protocol to reach it by."""

    def open_session(self, key: str | None) -> TargetSession:
        """Begin a conversation; ``key`` is its own API key, None if it uses the run's."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def error_kind(error: ClientError) -> str:
    """Return which of a few kinds ``error`` belongs to: reports count errors by these."""
    match error:
        case UnreachableError():
            return "connect"
        case ServerTimeoutError():
            return "timeout"
        case ConnectionLostError():
            return "broken stream"
        case APIError(status=status, code=code):
            return " ".join(str(part) for part in ("error" if status is None else f"http {status}", code) if part)
    return "error"
