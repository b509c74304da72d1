"""What core tells the outside, in the order it happened: frozen, serialisable. Metrics and logs observe these."""

from dataclasses import dataclass
from enum import StrEnum

from service.core.messages.sampling import TokenLogprobs
from service.core.messages.views import PoolView, RequestView, SessionView


class FinishReason(StrEnum):
    """Why a request ended. ``stop`` and ``length`` are OpenAI's."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. ``reused``: prompt tokens that had KV from an earlier turn. ``recomputed``: those done twice.

    ``swapped_out`` and ``swapped_in`` are blocks that were copied to the host and back for it.
    """

    prompt: int
    completion: int
    reused: int
    recomputed: int
    preemptions: int
    swapped_out: int = 0
    swapped_in: int = 0

    @property
    def swapped_blocks(self) -> int:
        """Both ways."""
        return self.swapped_out + self.swapped_in


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, measured by the clock that drives core. None: it never came so far.

    ``stall_s``: all the time that it was preempted.
    """

    queue_s: float | None
    ttft_s: float | None
    e2e_s: float
    stall_s: float = 0.0


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
    block that higher ranks have a claim to), ``failure`` (the step that gave it its slot failed), ``debug`` (it was
    asked for).
    """

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A preempted request is in the batch again, after ``parked_s`` seconds.

    ``switch_s`` of them its KV or its room was on the way: what the switch itself cost, apart from its turn coming.
    """

    request_id: str
    parked_s: float
    switch_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a request."""

    request_id: str
    reason: FinishReason
    usage: Usage
    timings: Timings


@dataclass(frozen=True, slots=True)
class SessionDropped:
    """An idle session lost its KV or its place. ``reason``: room, expired, limit, closed, failure."""

    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """Blocks changed places inside the device pool."""

    blocks: int


@dataclass(frozen=True, slots=True)
class CopyStarted:
    """A copy was handed to the link. ``reused``: leading blocks that need no copy, since the other side has them."""

    direction: str
    blocks: int
    reused: int


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """A copy is done or has failed, after ``seconds`` on the link, as ``pieces`` contiguous copies."""

    direction: str
    blocks: int
    pieces: int
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Contaminated:
    """Redundant host copies were given up to make host room."""

    blocks: int


@dataclass(frozen=True, slots=True)
class KVDropped:
    """KV was given up that will be computed again if it is needed.

    ``reason``: ``host_full`` (no room to copy it to), ``copy_failed`` (too often), ``link_busy`` (computing it is
    quicker), ``no_swap`` (there is no host pool, or the preset copies nothing).
    """

    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class ShadowSwitched:
    """What the shadowed policy would have done in one step: preemptions, and the blocks it would have copied out."""

    preemptions: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """How full core is: in each `StepDone`, and by itself when something changed and no step follows.

    ``swapped`` are those of the ``preempted`` whose KV is not all on the device. ``blocks_*`` are device blocks;
    ``*_reserved`` are held but not yet used. ``priority_updates`` counts since the start.
    """

    running: int
    waiting: int
    preempted: int
    idle_sessions: int
    blocks_total: int
    blocks_used: int
    blocks_reserved: int
    largest_free: int = 0  # blocks of the device's longest free extent
    swapped: int = 0
    host_blocks_total: int = 0
    host_blocks_used: int = 0
    copies_in_flight: int = 0
    priority_updates: int = 0


@dataclass(frozen=True, slots=True)
class StepDone:
    """One step's account, by the engine. ``idle_s``: how long the device waited for it while there was work.

    ``copy_wait_s`` of that it waited for copies. ``swap_s``: the engine's own time on starting and ending copies since
    the step before.
    """

    number: int
    prefill_tokens: int
    decode_tokens: int
    plan_s: float
    device_s: float
    commit_s: float
    idle_s: float
    gauges: Gauges
    copy_wait_s: float = 0.0
    swap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of core at one moment, in numbers: the answer to `Inspect`."""

    number: int
    gauges: Gauges
    slots: int
    slots_free: int
    requests: tuple[RequestView, ...]
    idle_sessions: tuple[SessionView, ...]
    pools: tuple[PoolView, ...]


RequestEvent = Refused | Started | TokenOut | Preempted | Resumed | Finished  # each names its request
Event = (
    RequestEvent
    | Compacted
    | SessionDropped
    | CopyStarted
    | CopyEnded
    | Contaminated
    | KVDropped
    | ShadowSwitched
    | StepDone
    | Gauges
    | Snapshot
)
