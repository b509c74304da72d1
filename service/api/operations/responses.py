"""The types of the debug views, with core's own views as parts."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict  # pydantic supports typing's own only from Python 3.12 on

from service.api.operations.tenant_views import TenantView
from service.core.messages.events import FinishReason, Gauges, Timings, Usage
from service.core.messages.views import PoolView, PrefixView, RequestView, SessionView
from service.execution.serving_device import ServingDevice

State = Literal["loading", "ready", "shutting_down", "hung", "failed"]


class Status(TypedDict):
    """The state of the server; *ok* means alive."""

    status: State | Literal["ok"]


class Version(TypedDict):
    """The server's version."""

    version: str


class CoreState(TypedDict):
    """All of core at one moment."""

    gauges: Gauges
    slots: int
    slots_free: int
    requests: list[RequestView]
    idle_sessions: list[SessionView]
    prefixes: list[PrefixView]
    pools: list[PoolView]


class DebugState(TypedDict):
    """The whole server. ``at``: Unix seconds. ``core``: null if the engine does not answer.

    ``service_window_s``: the time over which the tenants' service and shares are counted.
    """

    at: float
    status: State
    model: str
    device: ServingDevice
    open_requests: int
    max_open_requests: int
    core: CoreState | None
    service_window_s: int
    tenants: list[TenantView]


class _Happened(TypedDict):
    at: float


class SubmittedNote(_Happened):
    """The API posted the request to the engine."""

    event: Literal["submitted"]


class RefusedNote(_Happened):
    """Core refused the request."""

    event: Literal["refused"]
    code: str
    message: str
    retry_after_s: float | None


class StartedNote(_Happened):
    """The request entered the batch."""

    event: Literal["started"]
    queue_s: float
    reused: int
    continued: int


class PreemptedNote(_Happened):
    """The request was preempted."""

    event: Literal["preempted"]
    reason: str


class ResumedNote(_Happened):
    """The request is in the batch again."""

    event: Literal["resumed"]
    parked_s: float
    switch_s: float


class FinishedNote(_Happened):
    """The request ended."""

    event: Literal["finished"]
    reason: FinishReason
    usage: Usage
    timings: Timings


Note = Annotated[
    SubmittedNote | RefusedNote | StartedNote | PreemptedNote | ResumedNote | FinishedNote,
    Field(discriminator="event"),
]


class RequestRecord(TypedDict):
    """What happened to a request. Times are Unix seconds; ``num_events`` includes events no longer listed."""

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
    """The records of one answer's choices, oldest first."""

    requests: list[RequestRecord]
