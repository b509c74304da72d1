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
class Asked:
    """What a turn asks for besides an answer. ``extra``: fields put into the request as they are."""

    model: str
    max_tokens: int
    temperature: float = 0.0
    priority: int | None = None
    user: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """The fields of a request, but for who asks; ``extra`` wins."""
        told = {"model": self.model, "max_tokens": self.max_tokens, "temperature": self.temperature}
        if self.priority is not None:
            told["priority"] = self.priority
        return {**told, **self.extra}


@dataclass(slots=True)
class Told:
    """What the server said of a turn; None where it did not. Names are those of `clients.report.TurnRecord`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reused: int | None = None
    recomputed: int | None = None
    preemptions: int | None = None
    swapped_bytes: int | None = None
    queue_s: float | None = None
    stall_s: float | None = None


class Talk(Protocol):
    """One conversation. Errors are `ClientError`."""

    def answer(self, history: list[Message], asked: Asked, told: Told) -> AsyncGenerator[str, None]:
        """Send the last message of ``history`` and yield the non-empty pieces of the answer as they come.

        Closing the generator in mid-answer cancels. What the server says of the turn goes into ``told``.
        """
        ...

    def vanish(self) -> None:
        """Break the connection off, as a client does whose machine dies."""
        ...

    async def close(self) -> None:
        """Part politely."""
        ...


class Target(Protocol):
    """A server and a protocol."""

    def talk(self, key: str | None) -> Talk:
        """Begin a conversation, with an API key of its own if it has one."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


def kind_of(error: ClientError) -> str:
    """Which of few kinds an error is of: what reports count."""
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
