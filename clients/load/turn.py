"""One turn: send it, time the pieces, stop early if the workload says so, and turn what goes wrong into a result."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from clients.errors import ClientError, ServerTimeoutError
from clients.load.clock import Clock
from clients.load.target import ServerFigures, TargetSession, TurnRequest, error_kind
from clients.protocol import Message
from clients.report import Outcome
from clients.trace import TraceTurn

INTERRUPTED = "interrupted"
PATIENCE_S = 0.25  # how long a user who cancels before anything came waits

Pieces = AsyncGenerator[str, None]
OnPiece = Callable[[bool, float], None]  # whether it is the turn's first piece, and when it came


@dataclass(slots=True)
class TurnResult:
    """What the client saw of a turn."""

    server: ServerFigures = field(default_factory=ServerFigures)
    pieces: list[str] = field(default_factory=list)
    piece_s: list[float] = field(default_factory=list)
    outcome: Outcome = Outcome.OK
    error: str | None = None
    end_s: float = 0.0

    @property
    def text(self) -> str:
        """The answer as far as it came."""
        return "".join(self.pieces)

    def record_fields(self) -> dict[str, Any]:
        """Return the fields of a `TurnRecord` that this result knows."""
        timed = {"piece_s": tuple(self.piece_s), "end_s": self.end_s}
        return {**timed, "outcome": self.outcome, "error": self.error, **asdict(self.server)}


class TurnRunner:
    """Runs turns of one run. ``on_piece`` is called for each piece of an answer."""

    def __init__(self, clock: Clock, timeout_s: float, on_piece: OnPiece) -> None:
        self._clock = clock
        self._timeout_s = timeout_s
        self._on_piece = on_piece

    async def run(
        self, session: TargetSession, turn: TraceTurn, history: list[Message], request: TurnRequest, pause_s: float
    ) -> TurnResult:
        """Run the turn and pause ``pause_s`` after each piece, as a slow reader does.

        Cancelling the task that awaits this ends the turn as `INTERRUPTED`.
        """
        result = TurnResult()
        try:
            async with asyncio.timeout(self._timeout_s):
                answer = session.answer(history, request, result.server)
                await self._receive(result, session, answer, turn, pause_s)
        except TimeoutError:
            result.outcome, result.error = Outcome.ERROR, error_kind(ServerTimeoutError())
        except ClientError as error:
            result.outcome, result.error = Outcome.ERROR, error_kind(error)
        except asyncio.CancelledError:
            result.outcome, result.error = Outcome.CANCELLED, INTERRUPTED
        result.end_s = self._clock.now()
        return result

    async def _receive(
        self, result: TurnResult, session: TargetSession, answer: Pieces, turn: TraceTurn, pause_s: float
    ) -> None:
        limits = [limit for limit in (turn.cancel_after, turn.disconnect_after) if limit is not None]
        most_pieces = min(limits, default=None)
        async with aclosing(answer) as pieces:
            if most_pieces == 0:
                await _wait_briefly(pieces)
                result.outcome = Outcome.CANCELLED
                return
            async for piece in pieces:
                now = self._clock.now()
                self._on_piece(not result.pieces, now)
                result.pieces.append(piece)
                result.piece_s.append(now)
                if len(result.pieces) == most_pieces:
                    break
                if pause_s:
                    await asyncio.sleep(pause_s)
            else:
                return
            result.outcome = Outcome.CANCELLED
            if turn.disconnect_after == most_pieces:
                session.vanish()
                result.outcome = Outcome.DISCONNECTED


async def _wait_briefly(pieces: Pieces) -> None:
    """Wait for the first piece, but no longer than `PATIENCE_S`."""
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(PATIENCE_S):
            await anext(pieces)
