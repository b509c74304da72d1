"""What the debug views answer with: ids and numbers. Core's own views are part of it as they are."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic reads typing's own only from Python 3.12 on

from service.api.access.accounts import AccountView
from service.core.messages.events import FinishReason, Gauges, Timings, Usage
from service.core.messages.views import PoolView, RequestView, SessionView
from service.execution.serving_device import ServingDevice

State = Literal["loading", "ready", "shutting_down", "hung", "failed"]


class Status(TypedDict):
    """How the server is; *ok* is alive."""

    status: State | Literal["ok"]


class CoreState(TypedDict):
    """All of core at one moment."""

    gauges: Gauges
    slots: int
    slots_free: int
    requests: list[RequestView]
    idle_sessions: list[SessionView]
    pools: list[PoolView]


class DebugState(TypedDict):
    """The whole server. ``at``: Unix seconds. ``core``: null if the engine does not answer."""

    at: float
    status: State
    model: str
    device: ServingDevice
    open_requests: int
    max_open_requests: int
    core: CoreState | None
    tenants: list[AccountView]


class _Happened(TypedDict):
    at: float


class SubmittedNote(_Happened):
    """The edge posted it to the engine."""

    event: Literal["submitted"]


class RefusedNote(_Happened):
    """Core did not take it in."""

    event: Literal["refused"]
    code: str
    message: str


class StartedNote(_Happened):
    """It entered the batch."""

    event: Literal["started"]
    queue_s: float
    reused: int


class PreemptedNote(_Happened):
    """It lost its place."""

    event: Literal["preempted"]
    reason: str


class ResumedNote(_Happened):
    """It has a place again."""

    event: Literal["resumed"]
    parked_s: float
    switch_s: float


class FinishedNote(_Happened):
    """It ended."""

    event: Literal["finished"]
    reason: FinishReason
    usage: Usage
    timings: Timings


Note = Annotated[
    SubmittedNote | RefusedNote | StartedNote | PreemptedNote | ResumedNote | FinishedNote,
    Field(discriminator="event"),
]


class RequestRecord(TypedDict):
    """What became of a request. Times are Unix seconds; ``num_events`` counts those that are no longer listed, too."""

    request_id: str
    client_id: str
    tenant: str
    prompt_tokens: int
    max_tokens: int
    priority: int
    tokens: int
    first_token_at: float | None
    last_token_at: float | None
    longest_gap_s: float
    num_events: int
    events: list[Note]


class DebugRequests(TypedDict):
    """The choices of one answer, oldest first."""

    requests: list[RequestRecord]
