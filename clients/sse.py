"""Parses server-sent events without I/O: bytes go in, the data of complete events comes out.

It follows the WHATWG text (https://html.spec.whatwg.org/multipage/server-sent-events.html) as far as a stream of
answers needs it: CR, LF and CRLF line ends, comments, several data lines an event. Event names and ids are ignored.
"""

from collections.abc import AsyncGenerator, AsyncIterable

MAX_EVENT_BYTES = 8 * 2**20


class Comment(str):
    """The text of a comment line, which is data of no event."""

    __slots__ = ()


class SSEDecoder:
    """Decodes one stream. If ``keep_comments``, comment lines come out too, each as a `Comment`.

    Always true: ``_line`` holds the bytes of a line whose end has not come, ``_data`` the data lines of an event
    whose blank line has not come. Lines are decoded whole, so that characters split between reads are restored.
    """

    def __init__(self, keep_comments: bool = False) -> None:
        self._keep_comments = keep_comments
        self._line = bytearray()
        self._data: list[str] = []
        self._size = 0
        self._after_cr = False
        self._first_line = True

    def feed(self, received: bytes) -> list[str]:
        """Take the next bytes and return the data of the events they complete. Raises ValueError if one is too big."""
        if not received:
            return []
        if self._after_cr and received.startswith(b"\n"):
            received = received[1:]
        events = []
        for piece in received.splitlines(keepends=True):
            self._take(piece)
            if piece.endswith((b"\r", b"\n")) and (data := self._end_line()) is not None:
                events.append(data)
        self._after_cr = received.endswith(b"\r")
        return events

    def _take(self, piece: bytes) -> None:
        self._line += piece
        self._size += len(piece)
        if self._size > MAX_EVENT_BYTES:
            raise ValueError(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def _end_line(self) -> str | None:
        """Process a complete line. If it is the blank one that ends an event, return the event's data."""
        line = self._line.rstrip(b"\r\n").decode("utf-8", "replace")
        self._line.clear()
        if self._first_line:
            line, self._first_line = line.removeprefix("\ufeff"), False
        if not line:
            return self._end_event()
        if self._keep_comments and line.startswith(":"):
            return Comment(line[1:].removeprefix(" "))
        name, _, value = line.partition(":")
        if name == "data":
            self._data.append(value.removeprefix(" "))
        return None

    def _end_event(self) -> str | None:
        data, self._data, self._size = self._data, [], 0
        return "\n".join(data) if data else None


async def decode_stream(pieces: AsyncIterable[bytes]) -> AsyncGenerator[str, None]:
    """Yield the data of each event in a stream of bytes, and comments. An incomplete event at the end is dropped."""
    decoder = SSEDecoder(keep_comments=True)
    async for piece in pieces:
        for data in decoder.feed(piece):
            yield data
