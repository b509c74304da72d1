"""The two encodings of frames, each a subprotocol, and the choice between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgpack
from aiohttp import WSMsgType, web

from service.api.json_bounds import read_json
from service.api.sse import compact
from service.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Codec:
    """The encoding of a subprotocol's frames. ``decode`` raises ValueError or TypeError for anything else."""

    subprotocol: str
    kind: WSMsgType
    encode: Callable[[dict[str, Any]], bytes]
    decode: Callable[[str | bytes], Any]

    def read(self, kind: WSMsgType, data: str | bytes) -> Any:
        """Return what a message holds. Raises `InvalidRequestError`."""
        if kind is not self.kind:
            raise InvalidRequestError(f"frames of {self.subprotocol} are {self.kind.name.lower()}")
        try:
            return self.decode(data)
        except (ValueError, TypeError) as error:
            raise InvalidRequestError(f"the frame cannot be decoded: {error or type(error).__name__}") from None


def _from_msgpack(data: str | bytes) -> Any:
    # Keys need not be strings: those of logit_bias are numbers. The message's length bounds the lengths inside.
    return msgpack.unpackb(data, strict_map_key=False)


CODECS = {
    codec.subprotocol: codec
    for codec in (
        Codec(
            "fastswitch.v1.json",
            WSMsgType.TEXT,
            lambda frame: compact(frame).encode(),
            read_json,
        ),
        Codec("fastswitch.v1.msgpack", WSMsgType.BINARY, msgpack.packb, _from_msgpack),
    )
}


def negotiate(request: web.Request) -> Codec:
    """Return the first of the client's subprotocols that the server speaks. Raises `InvalidRequestError` if none is."""
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    chosen = next((CODECS[name] for name in offered if name in CODECS), None)
    if chosen is None:
        raise InvalidRequestError(f"offer a subprotocol that this server speaks: {' or '.join(CODECS)}")
    return chosen
