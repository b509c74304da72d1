"""One conversation: its history, the turn that runs or ran last, and who reads it.

The history ends before the last turn, whose question and answer stand beside it until the next turn begins: so long,
the answer can still be cut down to what the client has read, and be sent again to a client that comes back.

Numbers grow through the session: one for each token, one for each turn's end.
"""

from collections.abc import Sequence
from typing import Protocol

from service.api.websocket.answer import NumberedAnswer
from service.api.websocket.frames import DoneFrame, ErrorFrame
from service.errors import InvalidRequestError, RequestError, SessionBusyError

ChatMessage = dict[str, str]
Owner = tuple[str, str]  # (tenant, user)


class LiveTurn(Protocol):
    """The answer under way."""

    def stop(self, error: RequestError | None = None) -> None:
        """End it: as cancelled, or with an error."""


class Reader(Protocol):
    """What the session needs of an `Outlet`."""

    sent: int
    read: int | None

    def wake(self) -> None:
        """There is news."""

    def eject(self, error: RequestError) -> None:
        """Close the connection."""


class ChatSession:
    """Belongs to the event loop. ``name``: core's for it, which unlike ``id`` is no secret.

    Always true: while ``turn`` is set there is no ``end``; numbers up to ``newest`` were given, and those of the last
    turn can be sent again.
    """

    def __init__(self, session_id: str, owner: Owner, name: str, history: Sequence[ChatMessage]) -> None:
        self.id = session_id
        self.owner = owner
        self.name = name
        self.history = list(history)
        self.question: list[ChatMessage] = []
        self.answer = NumberedAnswer(first=1)
        self.end: DoneFrame | ErrorFrame | None = None
        self.turn: LiveTurn | None = None
        self.turns = 0
        self.preempted: str | None = None  # the reason, while it lasts
        self.last_stall_s = 0.0
        self.reader: Reader | None = None
        self._sent_before = 0  # the last number that a connection was given, of those that are gone

    @property
    def newest(self) -> int:
        """The last number that was given out."""
        return self.answer.newest if self.end is None or self.end.number is None else self.end.number

    @property
    def ahead(self) -> int:
        """Tokens that the client has not been given, or not read if it says what it reads."""
        if self.reader is None:
            return self.newest - self._sent_before
        return self.newest - (self.reader.sent if self.reader.read is None else self.reader.read)

    def begin(self, turn: LiveTurn, question: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Start a turn; returns the messages that it answers. Raises `SessionBusyError`.

        A turn whose end has not been sent is still under way in the client's eyes.
        """
        if self.turn is not None or (self.reader is not None and self.reader.sent < self.newest):
            raise SessionBusyError("a turn is under way in this session")
        if self.reader is not None and self.reader.read is not None:
            self.reader.read = self.newest  # who asks again has read the answer
        self._close_turn()
        self.turn, self.question = turn, list(question)
        self.turns += 1
        return [*self.history, *self.question]

    def add(self, text: str) -> None:
        """The answer's next piece."""
        self.answer.add(text)
        self.wake()

    def finish(self, end: DoneFrame | ErrorFrame) -> None:
        """The turn has ended."""
        self.turn, self.preempted, self.end = None, None, end
        self.wake()

    def truncate(self, last: int | None) -> None:
        """The client wants no more: the answer ends at the last number it read, or that it was sent."""
        sent = self._sent_before if self.reader is None else self.reader.sent
        if last is not None and last > sent:
            raise InvalidRequestError(f"last: number {last} has not been sent", param="last")
        if last is not None or self.turn is not None:
            self.answer.truncate(sent if last is None else last)

    def acknowledge(self, last: int) -> None:
        """The client has read so far."""
        if self.reader is not None:
            if last > self.reader.sent:
                raise InvalidRequestError(f"last: number {last} has not been sent", param="last")
            self.reader.read = max(last, self.reader.read or 0)

    def attach(self, reader: Reader) -> None:
        """A connection reads from now on."""
        self.reader = reader

    def detach(self) -> None:
        """Nobody reads any more."""
        if self.reader is not None:
            self._sent_before = self.reader.sent
            self.reader = None

    def wake(self) -> None:
        """Tell the reader that there is news."""
        if self.reader is not None:
            self.reader.wake()

    def _close_turn(self) -> None:
        """The last turn becomes history, unless it came to nothing."""
        if text := self.answer.text:
            self.history += [*self.question, {"role": "assistant", "content": text}]
        self.answer = NumberedAnswer(first=self.newest + 1)
        self.end = None
