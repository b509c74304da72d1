"""The measurements of one turn. Latencies count from when the turn was due."""

import numpy as np
from numpy.typing import NDArray

from clients.report import Outcome, Run, TurnRecord

Seconds = NDArray[np.float64]  # [samples]


def measured(run: Run) -> list[TurnRecord]:
    """Return the turns that count: all except the warm-up's."""
    return [turn for turn in run.records if not turn.warmup]


def answered(turn: TurnRecord) -> bool:
    """Return whether the answer says something about speed: not after an error, but after an end by the client."""
    return turn.outcome is not Outcome.ERROR


def ttft_s(turn: TurnRecord) -> float | None:
    """Return the time from due to the first piece; None if none came."""
    return turn.piece_s[0] - turn.scheduled_s if turn.piece_s else None


def e2e_s(turn: TurnRecord) -> float | None:
    """Return the time from due to the end; None if the turn did not end well."""
    return turn.end_s - turn.scheduled_s if turn.outcome is Outcome.OK else None


def gaps_s(turn: TurnRecord) -> Seconds:
    """Return the times between pieces, one fewer than pieces."""
    return np.diff(np.asarray(turn.piece_s, np.float64))


def longest_stall_s(turn: TurnRecord) -> float | None:
    """Return the longest gap; None with fewer than two pieces."""
    gaps = gaps_s(turn)
    return float(gaps.max()) if gaps.size else None


def answer_tokens(turn: TurnRecord) -> int:
    """Return the tokens of the answer: the server's count, else one a piece."""
    return len(turn.piece_s) if turn.completion_tokens is None else turn.completion_tokens


def new_prompt_tokens(turn: TurnRecord) -> int:
    """Return the prompt tokens that were not reused, by the server's count; 0 if it reports no prompt tokens."""
    return max(0, (turn.prompt_tokens or 0) - (turn.reused or 0))
