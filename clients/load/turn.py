"""One turn: ask, time the pieces, stop early if the workload says so, and never raise what the server did."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from clients.errors import ClientError, ServerTimeoutError
from clients.load.clock import Clock
from clients.load.target import Asked, Talk, Told, kind_of
from clients.protocol import Message
from clients.report import Outcome
from clients.trace import Turn

INTERRUPTED = "interrupted"
PATIENCE_S = 0.25  # of a user who cancels before anything came

PieceSeen = Callable[[bool, float], None]  # whether it is the turn's first, when it came


@dataclass(slots=True)
class Heard:
    """What came of a turn."""

    told: Told = field(default_factory=Told)
    pieces: list[str] = field(default_factory=list)
    piece_s: list[float] = field(default_factory=list)
    outcome: Outcome = Outcome.OK
    error: str | None = None
    end_s: float = 0.0

    @property
    def text(self) -> str:
        """The answer as far as it came."""
        return "".join(self.pieces)

    def facts(self) -> dict[str, Any]:
        """Fields of a `TurnRecord`."""
        timed = {"piece_s": tuple(self.piece_s), "end_s": self.end_s}
        return {**timed, "outcome": self.outcome, "error": self.error, **asdict(self.told)}


class Listener:
    """Takes turns of one run. ``seen`` is told of each piece."""

    def __init__(self, clock: Clock, timeout_s: float, seen: PieceSeen) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._seen = seen

    async def hear(self, talk: Talk, turn: Turn, history: list[Message], asked: Asked, pause_s: float) -> Heard:
        """Take the turn; ``pause_s``: a slow reader's, after each piece. Being cancelled ends it as INTERRUPTED."""
        heard = Heard()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._listen(heard, talk, turn, history, asked, pause_s)
        except TimeoutError:
            heard.outcome, heard.error = Outcome.ERROR, kind_of(ServerTimeoutError())
        except ClientError as error:
            heard.outcome, heard.error = Outcome.ERROR, kind_of(error)
        except asyncio.CancelledError:
            heard.outcome, heard.error = Outcome.CANCELLED, INTERRUPTED
        heard.end_s = self._clock.now()
        return heard

    async def _listen(
        self, heard: Heard, talk: Talk, turn: Turn, history: list[Message], asked: Asked, pause_s: float
    ) -> None:
        limits = [limit for limit in (turn.cancel_after, turn.disconnect_after) if limit is not None]
        most = min(limits, default=None)
        async with aclosing(talk.answer(history, asked, heard.told)) as pieces:
            if most == 0:
                await _give_up(pieces)
                heard.outcome = Outcome.CANCELLED
                return
            async for piece in pieces:
                now = self._clock.now()
                self._seen(not heard.pieces, now)
                heard.pieces.append(piece)
                heard.piece_s.append(now)
                if len(heard.pieces) == most:
                    break
                if pause_s:
                    await asyncio.sleep(pause_s)
            else:
                return
            heard.outcome = Outcome.CANCELLED
            if turn.disconnect_after == most:
                talk.vanish()
                heard.outcome = Outcome.DISCONNECTED


async def _give_up(pieces: AsyncGenerator[str, None]) -> None:
    """Wait for the first piece with little patience."""
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(PATIENCE_S):
            await anext(pieces)
