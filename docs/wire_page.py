"""The page docs/wire.md: the frames and errors of the chat stream, from their types. `generate` writes it."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from service.api.errors import STATUS_AND_TYPE, close_code_of, kind_of
from service.api.websocket import frames

WIRE_HEAD = """\
# The chat stream: `GET /v1/chat/stream`

The chat stream is a conversation over a WebSocket. The server keeps the history and its KV; the client sends only what
is new. A connection may break at any point: the answer goes on, and a client that comes back gets exactly what it
lacks.

Offer one of two subprotocols: `fastswitch.v1.json`, whose frames are text messages with a JSON object each, or
`fastswitch.v1.msgpack`, whose frames are binary messages with a MessagePack map each. Their contents are the same. The
upgrade is refused with 400 if neither is offered, with 403 if a page of another site asks, with 429 if the server is
full, and with 503 if it is shutting down, in each case with the error body of the HTTP routes.

If the server requires keys, send `Authorization: Bearer KEY` with the upgrade. A browser cannot; it offers the
subprotocol `fastswitch.key.KEY` beside the other. Without a valid key the upgrade is refused with 401. A key that is
withdrawn later ends the connection with 4401 at its next turn. A session belongs to the key's tenant and to the `user`
that opened it. The `cache_salt` of its opening holds for all its turns.

## A conversation

```
client                                              server
{"type":"open"}                                     {"type":"opened","session":"pGh...","last":0,"turns":0,...}
{"type":"turn","content":"Hello","max_tokens":64}   {"type":"token","text":"Hi","number":1}
                                                    {"type":"token","text":" there!","number":3}
                                                    {"type":"done","number":4,"finish_reason":"stop",...}
{"type":"turn","content":"A story, please"}         {"type":"token","text":"Once","number":5}
        (the connection breaks; a new one:)
{"type":"open","session":"pGh...","last":5}         {"type":"opened","session":"pGh...","last":9,"turns":2,...}
                                                    {"type":"token","text":" upon a time","number":9}
```

**Numbers.** Each token of an answer has a number, and so has each end of a turn; numbers grow through the session. Text
that was held back, because it might have begun a stop string, comes with the end and has a number of its own. A `token`
frame may hold several tokens: a slow client gets fewer and longer frames.

**Coming back.** Send `open` with the session and the last number that you have. The server sends what follows that
number again, a missed end included. `opened.turns` says whether your last `turn` arrived; if not, send it again. Coming
back takes the session over from a connection that is still open, which is closed with 4409. A server that does not know
the session any more (it was restarted, or the session expired) answers `session_lost`: open a new one, on the same
connection, with the history in `messages`.

**Without a connection** a turn goes on for `--reconnect-grace` seconds, and at most `--reconnect-buffer` tokens ahead
of what was sent to the client, or of what it acknowledged if it sends `ack`. Then the turn is cancelled, and the answer
so far can still be fetched. A session without a connection is forgotten after `--session-ttl` seconds.

**The history** grows by a turn's messages and its answer; a turn without any text leaves no trace. After a `cancel` the
answer ends at the number that the client names, or else at the last one that was sent, even if the `cancel` and the end
crossed on the way.

**Waiting.** A turn that waits for its first step is told its place each second near the front and at least every 15 s
far from it, by a `queued` frame if anything has changed. The place is that in the order of arrival; other policies than
`fcfs` may serve it earlier or later. The last such frame has `position` 0: the turn has started, or it ends with the
next frame, as with the error `queue_timeout` after `--queue-timeout` seconds.

**One at a time.** A `turn` during a turn is refused with `session_busy`, and the first goes on. A connection has one
session, and a session one connection.

**Keep-alive.** The server pings after `--ping-interval` seconds of silence and drops a client that does not answer
within half of that. A client that does not read for `--write-timeout` seconds loses its turn and its connection. Every
WebSocket library answers pings by itself, as long as it is reading.

A wrong frame is answered by an `error` without a number, and changes nothing. A message larger than `--max-body` closes
the connection with 1009, text that is not UTF-8 with 1007, and bytes that are not a WebSocket frame with 1002.

This page is written by `python docs/generate.py`.

"""

CLIENT_TABLE = "| Field | Type | Default | What it is |\n|---|---|---|---|\n"
SERVER_TABLE = "| Field | Type | What it is |\n|---|---|---|\n"

WIRE_ERRORS = """\
## Errors and close codes

The table lists the codes of `error` frames, the HTTP status that stands for each, and the code with which a connection
is closed if the error ends it: the standard one if there is one, else 4000 plus the status. A connection that ends
without an error is closed with 1000.

| Code | Status | Close code | What it is |
|---|---|---|---|
"""


def wire_page() -> str:
    """Return the page of the chat stream's frames and errors."""
    client, _ = get_args(frames.ClientFrame)
    sections = [
        WIRE_HEAD,
        "## Frames of the client\n\n",
        *(_frame(kind, CLIENT_TABLE) for kind in get_args(client)),
        "## Frames of the server\n\n",
        *(_frame(kind, SERVER_TABLE) for kind in get_args(frames.ServerFrame)),
        *(_frame(kind, SERVER_TABLE) for kind in (frames.TurnUsage, frames.TurnTimings)),
        WIRE_ERRORS,
        *map(_error_line, STATUS_AND_TYPE),
    ]
    return "".join(sections)


def _frame(kind: type[BaseModel], table: str) -> str:
    tag = kind.model_fields.get("type")
    name = kind.__name__ if tag is None else get_args(tag.annotation)[0]
    lines = list(_field_lines(kind, with_default=table is CLIENT_TABLE))
    text = "\n\n".join(" ".join(part.split()) for part in (kind.__doc__ or "").split("\n\n"))
    return f"### `{name}`\n\n{text}\n\n" + (f"{table}{''.join(lines)}\n" if lines else "")


def _field_lines(kind: type[BaseModel], with_default: bool) -> Iterator[str]:
    properties = kind.model_json_schema()["properties"]
    for name, field in sorted(kind.model_fields.items(), key=lambda item: item[0] not in kind.__annotations__):
        if field.description:
            default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
            defaults = ["required" if field.is_required() else default] if with_default else []
            yield _row(f"`{name}`", _type_of(properties[name]), *defaults, field.description)


def _type_of(schema: dict[str, Any]) -> str:
    """Return a JSON schema in a word or two."""
    if "anyOf" in schema:
        return " or ".join(_type_of(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if schema["type"] == "array":
        return f"list of {_type_of(schema['items'])}"
    return str(schema["type"])


def _error_line(code: str) -> str:
    kind = kind_of(code)
    summary = (kind.__doc__ or "").split("\n")[0]
    return _row(f"`{code}`", str(int(STATUS_AND_TYPE[code][0])), str(int(close_code_of(kind))), summary)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"
