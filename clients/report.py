"""What a load test leaves behind: a `Run` of `TurnRecord`s, one for each turn that was due.

A leaf: the load tester writes these, statistics and reports read them, benchmarks too. Times are seconds since the
run's start on the client's monotonic clock. Latencies count from ``scheduled_s``, when the turn was *due*, not from
when a busy client came round to sending it: otherwise a server that stalls everybody looks fast (coordinated omission).
"""

from dataclasses import dataclass, field
from enum import StrEnum

FORMAT = "fastswitch-load"
VERSION = 1


class Outcome(StrEnum):
    """How a turn ended. The client itself cancels or disconnects when the workload tells it to."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """One turn as its client saw it.

    ``piece_s``: when each non-empty piece of the answer came (an SSE chunk, a token frame): the first gives TTFT, the
    gaps are TBT. ``error``: its kind, of few different ones (``http 503 overloaded``, ``connect``, ``timeout``).
    The fields from ``reused`` on are what the server told, None where it does not tell.
    """

    conversation: str
    turn: int
    tenant: str
    priority: int
    warmup: bool
    scheduled_s: float
    sent_s: float
    end_s: float
    piece_s: tuple[float, ...]
    outcome: Outcome
    error: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reused: int | None = None
    recomputed: int | None = None
    preemptions: int | None = None
    swapped_bytes: int | None = None
    queue_s: float | None = None
    stall_s: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """A whole load test. ``settings``: every flag as it was in effect, secrets left out. ``weights``: by tenant."""

    target: str
    protocol: str
    model: str
    started_at: str  # ISO 8601, UTC
    duration_s: float
    settings: dict[str, object]
    records: tuple[TurnRecord, ...]
    weights: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    saturated_at_s: float | None = None  # when the server was seen to fall behind for good
    client_cpu_s: float = 0.0
