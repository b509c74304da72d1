"""JSON of clients, bounded before it is parsed: a parser builds all its objects while no other thread runs."""

from typing import Any

from pydantic_core import from_json

from service.errors import InvalidRequestError

# Text may have these characters too, so the bounds are far above what a prompt that fits any model has of them.
MAX_CONTAINERS = 50_000
MAX_PAIRS = 100_000


def read_json(raw: bytes | str) -> Any:
    """Return what a text holds. Raises `InvalidRequestError` for too much of it, ValueError for no JSON."""
    encoded = raw.encode() if isinstance(raw, str) else raw
    containers = encoded.count(b"[") + encoded.count(b"{")
    if containers > MAX_CONTAINERS:
        raise InvalidRequestError(f"{containers} brackets open lists or objects, at most {MAX_CONTAINERS} may")
    if (pairs := encoded.count(b":")) > MAX_PAIRS:
        raise InvalidRequestError(f"there are {pairs} colons, at most {MAX_PAIRS} are read")
    return from_json(encoded, allow_inf_nan=False)
