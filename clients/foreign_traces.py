"""Reads foreign traces, ShareGPT's JSON and Mooncake's JSON lines, and recognises each by its first line."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clients.trace import FORMAT, Trace, TraceConversation, TraceError, TraceTurn, read_trace

CHARACTERS_PER_TOKEN = 4  # in English text; ShareGPT has text and no counts

_USER, _ASSISTANT = {"human", "user"}, {"gpt", "assistant", "chatgpt", "bing", "bard"}


def read_any_trace(path: Path) -> Trace:
    """Read a trace of any known format. Raises `TraceError`, or OSError."""
    with path.open(encoding="utf-8") as file:
        first = file.readline()
    if first.lstrip().startswith("["):
        return read_sharegpt(path)
    if '"timestamp"' in first and FORMAT not in first:
        return read_mooncake(path)
    return read_trace(path)


def read_sharegpt(path: Path) -> Trace:
    """Read a list of ``{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]}``.

    It has no arrivals. Answers may be as long as those in the file; lengths are estimated from characters.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TraceError(f"{path}: not JSON: {error}") from error
    conversations = []
    for number, entry in enumerate(entries):
        if turns := _sharegpt_turns(path, number, entry):
            conversations.append(TraceConversation(str(entry.get("id", number)), None, tuple(turns)))
    return _trace(path, "sharegpt", conversations)


def _sharegpt_turns(path: Path, number: int, entry: Any) -> list[TraceTurn]:
    """Return the questions that were answered, up to the first message out of order."""
    try:
        said = [(message["from"], message["value"]) for message in entry["conversations"]]
    except (KeyError, TypeError) as error:
        raise TraceError(f"{path}, entry {number}: not a ShareGPT conversation: {error}") from error
    said = said[1:] if said and said[0][0] == "system" else said
    turns = []
    for (asker, question), (answerer, answer) in zip(said[::2], said[1::2], strict=False):
        if asker not in _USER or answerer not in _ASSISTANT or not question or not answer:
            break
        turns.append(TraceTurn(_estimate(question), _estimate(answer), text=question))
    return turns


def read_mooncake(path: Path) -> Trace:
    """Read one-turn conversations: ``timestamp`` (ms), ``input_length``, ``output_length`` and ``hash_ids`` a line."""
    conversations = []
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                conversations.append(_mooncake_request(path, number, line))
    conversations.sort(key=lambda each: each.arrival_s or 0.0)
    return _trace(path, "mooncake", conversations)


def _mooncake_request(path: Path, number: int, line: str) -> TraceConversation:
    try:
        request: Mapping[str, Any] = json.loads(line)
        turn = TraceTurn(
            max(1, int(request["input_length"])),
            max(1, int(request["output_length"])),
            hash_ids=tuple(request.get("hash_ids", ())),
        )
        return TraceConversation(str(number), request["timestamp"] / 1000, (turn,))
    except (KeyError, TypeError, ValueError) as error:
        raise TraceError(f"{path}, line {number}: not a Mooncake request: {error}") from error


def _trace(path: Path, form: str, conversations: Sequence[TraceConversation]) -> Trace:
    if not conversations:
        raise TraceError(f"{path}: no conversation in it")
    return Trace(tuple(conversations), source={"format": form, "file": path.name})


def _estimate(text: str) -> int:
    return max(1, round(len(text) / CHARACTERS_PER_TOKEN))
