"""Counts of a run in progress: the driver writes them, the progress display and the saturation watch read them."""

from collections import Counter, deque
from dataclasses import dataclass, field

from clients.load.turn import TurnResult
from clients.report import Outcome

RECENT = 50  # turns that `ttft_now_s` looks back on


@dataclass(slots=True)
class RunCounts:
    """Counts turns and pieces. ``lateness_s`` is the longest time after its due time that the client sent a turn."""

    turns_in_trace: int
    due: int = 0
    sent: int = 0
    done: int = 0
    pieces: int = 0
    lateness_s: float = 0.0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    ttft_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def waiting(self) -> int:
        """Turns that are due and have not ended."""
        return self.due - self.done

    @property
    def in_flight(self) -> int:
        """Turns that were sent and have not ended."""
        return self.sent - self.done

    def note_end(self, result: TurnResult) -> None:
        """Count a turn that has ended."""
        self.done += 1
        self.outcomes[result.outcome] += 1
        if result.outcome is Outcome.ERROR:
            self.errors[result.error or "error"] += 1

    @property
    def ttft_now_s(self) -> float | None:
        """The median of the latest times to first token, which count from when each turn was due; None without any."""
        recent = sorted(self.ttft_s)
        return recent[len(recent) // 2] if recent else None
