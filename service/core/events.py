"""What core tells the outside, in the order it happened: frozen, serialisable. Metrics and logs observe these."""

from dataclasses import dataclass
from enum import StrEnum

from service.core.sampling import TokenLogprobs
from service.core.views import PoolView, RequestView, SessionView


class FinishReason(StrEnum):
    """Why a request ended. ``stop`` and ``length`` are OpenAI's."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. ``reused``: prompt tokens that had KV from an earlier turn. ``recomputed``: those done twice."""

    prompt: int
    completion: int
    reused: int
    recomputed: int
    preemptions: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, measured by the clock that drives core. None: it never came so far."""

    queue_s: float | None
    ttft_s: float | None
    e2e_s: float


@dataclass(frozen=True, slots=True)
class Refused:
    """A submit was not accepted; ``code`` names the error in `service.errors`."""

    request_id: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Started:
    """A request entered the batch for the first time."""

    request_id: str
    queue_s: float
    reused: int


@dataclass(frozen=True, slots=True)
class TokenOut:
    """One accepted token, number ``index`` of the answer. ``gap_s``: time since the one before; TTFT for number 0."""

    request_id: str
    index: int
    token: int
    logprobs: TokenLogprobs | None
    gap_s: float


@dataclass(frozen=True, slots=True)
class Preempted:
    """A running request lost its place in the batch.

    ``reason``: ``slot`` (a higher rank took it), ``room`` (a higher rank needs its blocks), ``growth`` (it needs a
    block that higher ranks have a claim to), ``failure`` (the step that gave it its slot failed).
    """

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A preempted request is in the batch again, after ``parked_s`` seconds."""

    request_id: str
    parked_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a request."""

    request_id: str
    reason: FinishReason
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class SessionDropped:
    """An idle session lost its KV or its place. ``reason``: room, expired, limit, closed."""

    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """How full core is: in each `StepDone`, and by itself when something changed and no step follows.

    Blocks are device blocks; ``blocks_reserved`` are held but not yet used.
    """

    running: int
    waiting: int
    preempted: int
    idle_sessions: int
    blocks_total: int
    blocks_used: int
    blocks_reserved: int


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step's account, by the engine. ``idle_s``: how long the device waited for it while there was work."""

    number: int
    prefill_tokens: int
    decode_tokens: int
    plan_s: float
    device_s: float
    commit_s: float
    idle_s: float
    gauges: Gauges


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of core at one moment, in numbers: the answer to `Inspect`."""

    number: int
    gauges: Gauges
    slots: int
    slots_free: int
    copies_in_flight: int
    requests: tuple[RequestView, ...]
    idle_sessions: tuple[SessionView, ...]
    pools: tuple[PoolView, ...]


Event = Refused | Started | TokenOut | Preempted | Resumed | Finished | SessionDropped | StepDone | Gauges | Snapshot
