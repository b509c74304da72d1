"""Traces: who says how much, and when. Load tests, benchmarks and a recording server share these JSON lines.

This module imports nothing of the project. The first line is the header, every other line a conversation; docs/trace.md
describes each field. Times are seconds, lengths are tokens. A trace holds text only if its source did (ShareGPT).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

FORMAT = "fastswitch-trace"
VERSION = 1


class TraceError(ValueError):
    """Raised for a file that is not a trace. Its text is one line that names the file and the line."""


@dataclass(frozen=True, slots=True)
class TraceTurn:
    """One request: its message adds ``user_tokens`` to the history, and its answer has at most ``max_tokens``.

    It is due ``think_s`` after the end of the answer before, or at the time ``at_s`` of the run if that is set. The
    client cancels (and says so) or disconnects (vanishes) after so many pieces of the answer; ``cancel_after`` 0 means
    before any. ``text`` is the message, if it is known; else ``hash_ids`` name its blocks of 512 tokens, equal ids for
    equal text (Mooncake's traces), if there are any. ``priority`` None stands for the conversation's.
    """

    user_tokens: int
    max_tokens: int
    think_s: float = 0.0
    at_s: float | None = None
    priority: int | None = None
    cancel_after: int | None = None
    disconnect_after: int | None = None
    text: str | None = None
    hash_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceConversation:
    """A user's turns. ``arrival_s`` is when the first is due; None if the trace does not say, or in a closed loop.

    ``read_tokens_per_s`` is the pace of a slow reader; None reads as fast as text comes. Lower ``priority`` goes first.
    ``service_tier`` *flex* is background work.
    """

    id: str
    arrival_s: float | None
    turns: tuple[TraceTurn, ...]
    tenant: str = ""
    priority: int = 0
    read_tokens_per_s: float | None = None
    service_tier: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Conversations in the order of their arrival. ``users`` have one each at a time in a closed loop; None: open loop.

    ``weights`` are shares by tenant. ``source`` says what the trace was made from, for people who read the file.
    """

    conversations: tuple[TraceConversation, ...]
    seed: int = 0
    users: int | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_turns(self) -> int:
        """The number of turns of all conversations."""
        return sum(len(conversation.turns) for conversation in self.conversations)


def write_trace(trace: Trace, path: Path) -> None:
    """Write ``trace`` with its conversations in their order. Raises OSError."""
    with path.open("w", encoding="utf-8") as file:
        file.write(header_line(trace))
        file.writelines(conversation_line(conversation) for conversation in trace.conversations)


def header_line(trace: Trace) -> str:
    """Return the first line: everything but the conversations."""
    optional = {"users": trace.users, "weights": dict(trace.weights), "source": dict(trace.source)}
    return _line({"format": FORMAT, "version": VERSION, "seed": trace.seed, **{k: v for k, v in optional.items() if v}})


def conversation_line(conversation: TraceConversation) -> str:
    """Return the line of one conversation, without the fields that have their default."""
    values = _without_defaults(conversation)
    return _line({**values, "turns": [_without_defaults(turn) for turn in conversation.turns]})


def read_trace(path: Path) -> Trace:
    """Read a trace in our format. Raises `TraceError`, or OSError."""
    with path.open(encoding="utf-8") as file:
        lines = _objects(path, file)
        header = next(lines, (0, {}))[1]
        if header.get("format") != FORMAT:
            raise TraceError(f"{path}: the first line is not the header of a {FORMAT}")
        if header.get("version") != VERSION:
            raise TraceError(f"{path}: version {header.get('version')}, this program reads {VERSION}")
        conversations = [_conversation(path, number, values) for number, values in lines]
    conversations.sort(key=lambda each: each.arrival_s or 0.0)  # a recording server writes them as they end
    return Trace(
        tuple(conversations),
        header.get("seed", 0),
        header.get("users"),
        header.get("weights", {}),
        header.get("source", {}),
    )


def _conversation(path: Path, number: int, values: dict[str, Any]) -> TraceConversation:
    try:
        turns = tuple(TraceTurn(**{**one, "hash_ids": tuple(one.get("hash_ids", ()))}) for one in values.pop("turns"))
        conversation = TraceConversation(**{"arrival_s": None, **values}, turns=turns)
    except (KeyError, TypeError, AttributeError) as error:
        raise TraceError(f"{path}, line {number}: not a conversation: {error}") from error
    if not turns or any(turn.user_tokens < 1 or turn.max_tokens < 1 for turn in turns):
        raise TraceError(f"{path}, line {number}: a conversation has turns of at least 1 token each way")
    return conversation


def _objects(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file with the numbers of their lines."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            raise TraceError(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(value, dict):
            raise TraceError(f"{path}, line {number}: not a JSON object")
        yield number, value


def _without_defaults(value: TraceConversation | TraceTurn) -> dict[str, Any]:
    values = asdict(value)
    return {each.name: values[each.name] for each in fields(value) if values[each.name] != each.default}


def _line(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n"
