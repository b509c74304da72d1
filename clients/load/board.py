"""What a run has come to so far: the driver writes it, progress and saturation read it."""

from collections import Counter, deque
from dataclasses import dataclass, field

from clients.load.turn import Heard
from clients.report import Outcome

RECENT = 50  # turns that "now" means


@dataclass(slots=True)
class Board:
    """Counts of turns and pieces. ``lateness_s``: how much later than due the client itself sent a turn, at worst."""

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
        """Turns that are due and not done."""
        return self.due - self.done

    @property
    def in_flight(self) -> int:
        """Turns that were sent and are not done."""
        return self.sent - self.done

    def end(self, heard: Heard) -> None:
        """A turn is done."""
        self.done += 1
        self.outcomes[heard.outcome] += 1
        if heard.outcome is Outcome.ERROR:
            self.errors[heard.error or "error"] += 1

    @property
    def ttft_now_s(self) -> float | None:
        """The middle one of the latest times to first token, from when each turn was due."""
        recent = sorted(self.ttft_s)
        return recent[len(recent) // 2] if recent else None
