"""Events of core, in the order in which they happened: frozen, serialisable. Metrics and logs observe them."""

from dataclasses import dataclass
from enum import StrEnum

from service.core.messages.sampling import TokenLogprobs
from service.core.messages.views import PoolView, PrefixView, RequestView, SessionView


class FinishReason(StrEnum):
    """Why a request ended. ``stop`` and ``length`` are OpenAI's, ``repetition`` is vLLM's: it repeated itself."""

    STOP = "stop"
    LENGTH = "length"
    REPETITION = "repetition"
    CANCELLED = "cancelled"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. ``reused``: prompt tokens with KV from an earlier turn or another request. ``recomputed``: twice.

    ``continued`` of the reused are the conversation's own, of the earlier turn; the others are shared.

    ``swapped_out`` and ``swapped_in`` are the blocks that were copied to the host and back for the request.
    """

    prompt: int
    completion: int
    reused: int
    recomputed: int
    preemptions: int
    swapped_out: int = 0
    swapped_in: int = 0
    continued: int = 0

    @property
    def shared(self) -> int:
        """Prompt tokens whose KV other conversations use, too."""
        return self.reused - self.continued

    @property
    def swapped_blocks(self) -> int:
        """Blocks copied in both directions."""
        return self.swapped_out + self.swapped_in


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds, measured by the clock that drives core; None if the request never got there.

    ``stall_s`` is all the time that it was preempted.
    """

    queue_s: float | None
    ttft_s: float | None
    e2e_s: float
    stall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A submit was not accepted, or waited too long; ``code`` names the error in `service.errors`.

    ``retry_after_s``: when a new attempt may succeed, if that can be told.
    """

    request_id: str
    code: str
    message: str
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A request got a slot for the first time.

    ``reused`` prompt tokens have KV; ``continued`` of them from the session's own earlier turn, the others are shared.
    """

    request_id: str
    queue_s: float
    reused: int
    continued: int = 0


@dataclass(frozen=True, slots=True)
class TokenOut:
    """An accepted token, number ``index`` of the answer. ``gap_s`` is the time since the one before, or TTFT for 0."""

    request_id: str
    index: int
    token: int
    logprobs: TokenLogprobs | None
    gap_s: float


@dataclass(frozen=True, slots=True)
class Preempted:
    """A running request lost its slot.

    ``reason``: ``slot`` (a higher rank took it), ``room`` (a higher rank needs its blocks), ``growth`` (it needs a
    block, and is not admitted), ``failure`` (the step that gave it its slot failed), ``debug`` (a setting asks for it).
    """

    request_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """A preempted request has a slot again, after ``parked_s`` seconds.

    For ``switch_s`` of them it was admitted and its KV or its blocks were on the way: the cost of the switch itself.
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
    """An idle session was dropped with its KV. ``reason``: room, expired, limit, closed, failure."""

    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class PrefixDropped:
    """A prefix that no session stands on any more was dropped. ``reason``: room, expired."""

    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Compacted:
    """Blocks were moved inside the device pool."""

    blocks: int


@dataclass(frozen=True, slots=True)
class CopyStarted:
    """A copy was started. ``reused``: blocks that need no copy, since the other side has them."""

    direction: str
    blocks: int
    reused: int


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """A copy is complete or has failed, after ``seconds`` on the link, as ``pieces`` contiguous copies."""

    direction: str
    blocks: int
    pieces: int
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class Contaminated:
    """Redundant host copies were freed for other KV."""

    blocks: int


@dataclass(frozen=True, slots=True)
class KVDropped:
    """KV was dropped, and will be computed again if it is needed.

    ``reason``: ``host_full`` (too few host blocks), ``copy_failed`` (too often), ``link_busy`` (computing it is
    quicker), ``no_swap`` (there is no host pool, or the preset copies nothing), ``failure`` (the step that computed or
    moved it has failed).
    """

    reason: str
    tokens: int


@dataclass(frozen=True, slots=True)
class ShadowSwitched:
    """What the shadowed policy would have done in a step: preemptions, and the blocks that it would have copied out."""

    preemptions: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Gauges:
    """How full core is: in each `StepDone`, and alone when something changed and no step follows.

    ``swapped`` counts those of the ``preempted`` whose KV is not all on the device. ``blocks_*`` are device blocks;
    ``*_reserved`` are held but not yet used. ``priority_updates`` counts since the start. ``waiting_for`` is what the
    waiting requests wait for, as in `RequestView`; None if none waits. ``fairness_gap`` is the difference of the
    services that backlogged tenants have got, over their weights, and ``fairness_bound`` what the policy promises that
    it never exceeds; 0 for a policy that promises nothing. ``fairness_excluded_s``: seconds, since the start, in which
    a backlogged tenant was left out of both because its requests did not fit. ``seconds_per_start`` is how long the
    queue took lately for each request that left it for the batch; None before one had to wait. ``prefixes`` of
    ``prefix_blocks`` blocks in all are kept apart from the sessions that stand on them, ``shared_blocks`` of these for
    several sessions.
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
    waiting_tokens: int = 0  # of their prompts
    waiting_for: str | None = None
    fairness_gap: float = 0.0
    fairness_bound: float = 0.0
    fairness_excluded_s: float = 0.0
    seconds_per_start: float | None = None
    prefixes: int = 0
    prefix_blocks: int = 0
    shared_blocks: int = 0


@dataclass(frozen=True, slots=True)
class Served:
    """The service that tenants got since the last such event: prompt tokens computed and twice the tokens drawn.

    Prompt tokens that were reused, and tokens computed again after a preemption, are free. Each tenant occurs once.
    """

    tenants: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class StepDone:
    """A step ended; the engine measured it. ``idle_s``: how long the device waited for it while there was work.

    For ``copy_wait_s`` of that it waited for copies. ``swap_s`` is the engine's own time for starting and ending copies
    since the step before, ``host_s`` the part of ``device_s`` in which no kernel ran, where the runner can tell.
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
    host_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of core at one moment, in numbers: the answer to `Inspect`."""

    number: int
    gauges: Gauges
    slots: int
    slots_free: int
    requests: tuple[RequestView, ...]
    idle_sessions: tuple[SessionView, ...]
    prefixes: tuple[PrefixView, ...]
    pools: tuple[PoolView, ...]


RequestEvent = Refused | Started | TokenOut | Preempted | Resumed | Finished  # each names its request
Event = (
    RequestEvent
    | Compacted
    | SessionDropped
    | PrefixDropped
    | CopyStarted
    | CopyEnded
    | Contaminated
    | KVDropped
    | ShadowSwitched
    | Served
    | StepDone
    | Gauges
    | Snapshot
)
