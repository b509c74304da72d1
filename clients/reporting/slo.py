"""Service level objectives, and goodput under them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.report import Outcome, TurnRecord
from clients.reporting.measures import gaps_s, ttft_s

TBT_PERCENTILE = 99


class SloError(ValueError):
    """Raised for text that is no objective. Its message is one line fit for a user."""


@dataclass(frozen=True, slots=True)
class Slo:
    """Upper bounds in seconds; None is unbounded.

    ``tbt_s`` bounds the 99th percentile of the turn's own gaps: a long answer may stall once in a hundred pieces, a
    short one never. A mean, as other clients take it (TPOT), would let a stall of seconds pass.
    """

    ttft_s: float | None = None
    tbt_s: float | None = None


@dataclass(frozen=True, slots=True)
class Goodput:
    """The objective was met by ``met`` of ``due`` turns. Turns that the client itself ended are not counted as due."""

    slo: Slo
    met: int
    due: int
    requests_per_s: float

    @property
    def attainment(self) -> float | None:
        """The share of the due turns that met it; None if none was due."""
        return self.met / self.due if self.due else None


def parse_slo(text: str) -> Slo:
    """Read ``ttft=0.5,tbt=0.1`` (seconds, either or both). Raises `SloError`."""
    bounds: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in {"ttft", "tbt"} or name in bounds:
            raise SloError(f"{text!r}: expected ttft=SECONDS,tbt=SECONDS, each at most once, at {part!r}")
        bounds[name] = _positive(value, text)
    return Slo(bounds.get("ttft"), bounds.get("tbt"))


def _positive(value: str, text: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        raise SloError(f"{text!r}: {value!r} is no number of seconds") from None
    if not 0 < seconds < float("inf"):
        raise SloError(f"{text!r}: {value!r} must be above 0")
    return seconds


def format_slo(slo: Slo) -> str:
    """Return what `parse_slo` reads."""
    bounds = (("ttft", slo.ttft_s), ("tbt", slo.tbt_s))
    return ",".join(f"{name}={bound:g}" for name, bound in bounds if bound is not None)


def goodput(turns: Sequence[TurnRecord], slo: Slo, window_s: float) -> Goodput:
    """Count the turns of the window that met ``slo``."""
    due = [turn for turn in turns if turn.outcome in {Outcome.OK, Outcome.ERROR}]
    met = sum(meets(turn, slo) for turn in due)
    return Goodput(slo, met, len(due), met / window_s if window_s > 0 else 0.0)


def meets(turn: TurnRecord, slo: Slo) -> bool:
    """Return whether ``turn`` ended well within all bounds. An answer without a piece never does."""
    ttft, gaps = ttft_s(turn), gaps_s(turn)
    if turn.outcome is not Outcome.OK or ttft is None:
        return False
    in_time = slo.ttft_s is None or ttft <= slo.ttft_s
    steady = slo.tbt_s is None or not gaps.size or np.percentile(gaps, TBT_PERCENTILE) <= slo.tbt_s
    return in_time and bool(steady)
