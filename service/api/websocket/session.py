"""One conversation: its history, the turn that runs or ran last, and its reader.

The history ends before the last turn, whose question and answer are kept apart until the next turn begins: until then
the answer can be truncated to what the client has read, and sent again to a client that comes back.

Numbers grow through the session: one for each token, one for each turn's end.
"""

from collections.abc import Sequence
from typing import Protocol

from service.api.waiting_line import Place
from service.api.websocket.answer import NumberedAnswer
from service.api.websocket.frames import DoneFrame, ErrorFrame
from service.errors import InvalidRequestError, RequestError, SessionBusyError

ChatMessage = dict[str, str]
Owner = tuple[str, str]  # (tenant, user)


class LiveTurn(Protocol):
    """What the session needs of a `RunningTurn`."""

    def stop(self, error: RequestError | None = None) -> None:
        """End the turn, as cancelled or with an error."""


class Reader(Protocol):
    """What the session needs of an `Outlet`."""

    sent: int
    read: int | None

    def wake(self) -> None:
        """Signal that there is something to take."""

    def eject(self, error: RequestError) -> None:
        """Close the connection."""


class ChatSession:
    """A conversation. Belongs to the event loop.

    ``name``: core's name of it, which unlike ``id`` is not secret. ``cache_salt``: of all its turns.

    Always true: while ``turn`` is set there is no ``end``; numbers up to ``newest`` are in use, and those of the last
    turn can be sent again.
    """

    def __init__(
        self, session_id: str, owner: Owner, name: str, history: Sequence[ChatMessage], cache_salt: str | None = None
    ) -> None:
        self.id = session_id
        self.owner = owner
        self.name = name
        self.cache_salt = cache_salt
        self.history = list(history)
        self.question: list[ChatMessage] = []
        self.answer = NumberedAnswer(first=1)
        self.end: DoneFrame | ErrorFrame | None = None
        self.turn: LiveTurn | None = None
        self.turns = 0
        self.place: Place | None = None  # of the turn, while it waits for its first step
        self.preempted: str | None = None  # the reason, while it lasts
        self.last_stall_s = 0.0
        self.reader: Reader | None = None
        self._sent_before = 0  # the last number that the last connection sent

    @property
    def newest(self) -> int:
        """The last number in use."""
        return self.answer.newest if self.end is None or self.end.number is None else self.end.number

    @property
    def ahead(self) -> int:
        """Tokens that were not sent to the client, or not read by a client that acknowledges."""
        if self.reader is None:
            return self.newest - self._sent_before
        return self.newest - (self.reader.sent if self.reader.read is None else self.reader.read)

    def begin(self, turn: LiveTurn, question: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Start a turn and return the messages that it answers. Raises `SessionBusyError`.

        A turn whose end was not sent yet counts as under way, as the client sees it.
        """
        if self.turn is not None or (self.reader is not None and self.reader.sent < self.newest):
            raise SessionBusyError("a turn is under way in this session")
        if self.reader is not None and self.reader.read is not None:
            self.reader.read = self.newest  # a client that asks again has read the answer
        self._close_turn()
        self.turn, self.question = turn, list(question)
        self.turns += 1
        return [*self.history, *self.question]

    def note_place(self, place: Place | None) -> None:
        """Note the turn's place in the queue; None once it has started."""
        if place != self.place:
            self.place = place
            self.wake()

    def add(self, text: str) -> None:
        """Add the answer's next piece."""
        self.answer.add(text)
        self.wake()

    def finish(self, end: DoneFrame | ErrorFrame) -> None:
        """End the turn."""
        self.turn, self.place, self.preempted, self.end = None, None, None, end
        self.wake()

    def truncate(self, last: int | None) -> None:
        """End the answer at the last number that the client read or, if None, that it was sent."""
        sent = self._sent_before if self.reader is None else self.reader.sent
        if last is not None and last > sent:
            raise InvalidRequestError(f"last: number {last} has not been sent", param="last")
        if last is not None or self.turn is not None:
            self.answer.truncate(sent if last is None else last)

    def acknowledge(self, last: int) -> None:
        """Note the last number that the client has read."""
        if self.reader is not None:
            if last > self.reader.sent:
                raise InvalidRequestError(f"last: number {last} has not been sent", param="last")
            self.reader.read = max(last, self.reader.read or 0)

    def attach(self, reader: Reader) -> None:
        """Set the connection that reads."""
        self.reader = reader

    def detach(self) -> None:
        """Note that no connection reads any more."""
        if self.reader is not None:
            self._sent_before = self.reader.sent
            self.reader = None

    def wake(self) -> None:
        """Signal the reader that there is something to take."""
        if self.reader is not None:
            self.reader.wake()

    def _close_turn(self) -> None:
        """Add the last turn to the history, unless its answer is empty."""
        if text := self.answer.text:
            self.history += [*self.question, {"role": "assistant", "content": text}]
        self.answer = NumberedAnswer(first=self.newest + 1)
        self.end = None
