"""What handlers find in the application: the served model, the limits, and the way to the engine."""

from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from service.api.access.accounts import Accounts
from service.api.access.addresses import Network
from service.api.access.caller import Caller
from service.api.access.door import Door
from service.api.access.keys import Keys
from service.api.access.sharing import Sharing
from service.api.operations.history import History
from service.api.operations.service_history import ServiceHistory
from service.api.streams import Streams
from service.api.waiting_line import WaitingLine
from service.config import PrefixSharing
from service.core.messages.sampling import RepetitionDetection
from service.execution.models.chat_template import ChatTemplate
from service.execution.models.tokenizer import Tokenizer
from service.execution.serving_device import ServingDevice
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a request gets that leaves it out.

    ``sampling``: sampling fields; those that are not there are OpenAI's. ``max_tokens``: of an answer; None: all that
    is left. ``repetition_detection``: when an answer ends that repeats itself; None: never.
    """

    sampling: Mapping[str, float] = field(default_factory=dict)
    max_tokens: int | None = None
    repetition_detection: RepetitionDetection | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model as clients see it."""

    name: str
    max_model_len: int
    capacity_tokens: int  # that the device's KV memory holds
    vocab_size: int  # of the model's output, which may be more than the tokenizer's
    stop_tokens: frozenset[int]
    tokenizer: Tokenizer
    chat_template: ChatTemplate
    longest_token_bytes: int
    created: int  # Unix seconds
    device: ServingDevice
    block_bytes: int = 0  # of KV
    defaults: Defaults = field(default_factory=Defaults)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits that the API enforces."""

    max_body: int  # bytes
    max_open_requests: int  # being prepared, queued or running
    write_timeout_s: float
    keep_alive_s: float
    hang_timeout_s: float
    max_chat_sessions: int  # and as many connections
    session_ttl_s: float
    reconnect_grace_s: float
    reconnect_buffer: int  # tokens
    ping_s: float
    only_local: bool  # the listener is a loopback address, and no keys are configured
    trusted_proxies: tuple[Network, ...]  # whose X-Forwarded-For is believed
    prefix_sharing: PrefixSharing
    allowed_origins: frozenset[str]  # in lower case
    body_timeout_s: float = 60.0  # not a setting


MODEL = web.AppKey("model", ServedModel)
LIMITS = web.AppKey("limits", Limits)
STREAMS = web.AppKey("streams", Streams)
METRICS = web.AppKey("metrics", Metrics)
EXECUTOR = web.AppKey("executor", Executor)
DOOR = web.AppKey("door", Door)
KEYS = web.AppKey("keys", Keys)
SHARING = web.AppKey("sharing", Sharing)
ACCOUNTS = web.AppKey("accounts", Accounts)
HISTORY = web.AppKey("history", History)
SERVICES = web.AppKey("services", ServiceHistory)
WAITING_LINE = web.AppKey("waiting_line", WaitingLine)
DOCUMENT = web.AppKey("document", dict[str, Any])  # the OpenAPI document

REQUEST_ID = web.RequestKey("request_id", str)
CALLER = web.RequestKey("caller", Caller)  # on every route but those open to all
BEGUN = web.RequestKey("begun", web.StreamResponse)  # a response whose headers are out: no other can follow
