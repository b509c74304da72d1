"""The frames of the protocol, as types. docs/wire.md is written from them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from service.api.errors import STATUS_AND_TYPE, retry_after
from service.api.openai.schemas import CacheSalt, ConversationFields, Listed, Message, refusal, refuse_unsupported
from service.core.messages.events import FinishReason
from service.errors import RequestError

Number = Annotated[int, Field(ge=0, lt=2**53)]


class _Control(BaseModel):
    """A frame without sampling fields. Unknown fields are refused, since they can only be mistakes."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class OpenFrame(_Control):
    """Begins a session, or comes back to one. It is the first frame, and is answered by `opened` or `error`."""

    type: Literal["open"]
    session: str | None = Field(None, max_length=128, description="The session to come back to. Unset: a new one")
    last: Number = Field(
        0, description="Last number that the client has of that session; the server sends what follows"
    )
    messages: Listed[Message] = Field([], description="History that a new session begins with")
    user: str | None = Field(
        None, max_length=512, description="User that the session belongs to; coming back needs the same one"
    )
    cache_salt: CacheSalt | None = Field(
        None, description="For a new session: only turns and requests with the same salt reuse its KV, and it theirs"
    )

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Self:
        if self.session is not None and self.messages:
            raise ValueError("messages are for a new session; an existing one has its own")
        if self.session is not None and self.cache_salt is not None:
            raise ValueError("cache_salt is for a new session; an existing one has its own")
        if self.session is None and self.last:
            raise ValueError("last is for a session to come back to; a new one has no numbers yet")
        return self


class TurnFrame(ConversationFields):
    """Adds messages to the history and asks for the answer, which ends with `done`, or with an `error` with a number.

    It takes the sampling fields of `/v1/chat/completions`, except `n`, `stream`, `user`, `cache_salt` and `logprobs`.
    """

    type: Literal["turn"]
    content: str | None = Field(None, description="Message of the user")
    messages: Listed[Message] | None = Field(
        None, min_length=1, description="Several messages of any role, in place of `content`"
    )
    n: Literal[1] = 1

    @model_validator(mode="after")
    def _has_messages(self) -> Self:
        if (self.content is None) == (self.messages is None):
            raise ValueError("a turn has either content or messages")
        extra = self.model_extra or {}
        if extra.get("logprobs") or extra.get("top_logprobs") is not None:
            raise ValueError("logprobs are not supported here")
        if self.cache_salt is not None:
            raise ValueError("cache_salt belongs to the frame that opens the session")
        return self

    @property
    def added(self) -> list[dict[str, str]]:
        """The messages that the history grows by, as chat templates want them."""
        if self.messages is None:
            return [{"role": "user", "content": self.content or ""}]
        return [message.for_template() for message in self.messages]


class AckFrame(_Control):
    """Says what was read. A client that sends these is disconnected when it falls too far behind."""

    type: Literal["ack"]
    last: Number = Field(description="Last number that was read")


class CancelFrame(_Control):
    """Ends the turn, if one runs, with `done`. The history keeps the answer as far as it was read."""

    type: Literal["cancel"]
    last: Number | None = Field(None, description="Last number that was read. Unset: the last that was sent")


class CloseFrame(_Control):
    """Ends the session, and closes the connection with code 1000."""

    type: Literal["close"]


ClientFrame = Annotated[
    OpenFrame | TurnFrame | AckFrame | CancelFrame | CloseFrame,
    Field(discriminator="type"),
]


class _ServerFrame(BaseModel):
    model_config = ConfigDict(frozen=True)


class OpenedFrame(_ServerFrame):
    """The session is open on this connection, and on no other."""

    type: Literal["opened"] = "opened"
    session: str = Field(description="Its name, 128 random bits: a client that knows it and the user may come back")
    last: int = Field(description="Newest number of the session; what the client lacks up to it follows")
    turns: int = Field(description="Turns accepted so far: says whether the last one arrived before a connection broke")
    running: bool = Field(description="Whether a turn is under way")
    model: str = Field(description="Model that answers")


class TokenFrame(_ServerFrame):
    """Text of the answer, from one token or several."""

    type: Literal["token"] = "token"
    text: str = Field(description="Text that follows what was sent before")
    number: int = Field(description="Number of the last token in it")


class QueuedFrame(_ServerFrame):
    """The turn waits for its first step. Sent each second near the front, else less often, if anything changed."""

    type: Literal["queued"] = "queued"
    position: int = Field(description="Place in the order of arrival, from 1; 0: the turn waits no more")
    reason: str | None = Field(
        None, description="`slot`: the batch is full; `room`: the memory is; null: unknown, or it waits no more"
    )
    estimate_s: float | None = Field(
        None,
        description="Seconds it may still take, if requests go on to start as quickly as the last ones; null: unknown",
    )


class PreemptedFrame(_ServerFrame):
    """The turn was preempted and waits."""

    type: Literal["preempted"] = "preempted"
    reason: str = Field(
        description="`slot` or `room`: others needed its slot or memory; `growth`: it lacked memory; `failure`; `debug`"
    )


class ResumedFrame(_ServerFrame):
    """The turn goes on."""

    type: Literal["resumed"] = "resumed"
    stalled_s: float = Field(description="Seconds that it waited")


class TurnUsage(_ServerFrame):
    """Token counts of a turn."""

    prompt_tokens: int = Field(description="Tokens of the whole history, the template's included")
    completion_tokens: int = Field(description="Tokens generated")
    reused_tokens: int = Field(description="Prompt tokens whose KV was there already")
    recomputed_tokens: int = Field(description="Tokens computed again because of preemptions")
    preemptions: int = Field(description="Times that the turn was preempted")
    swapped_bytes: int = Field(description="Bytes of its KV that were copied to the host and back")


class TurnTimings(_ServerFrame):
    """Where a turn's time went, in seconds."""

    queue_s: float | None = Field(description="From arrival to the first step; null: there was none")
    ttft_s: float | None = Field(description="From arrival to the first token; null: there was none")
    tbt_s: float | None = Field(description="Mean time between tokens, stalls included; null: fewer than two")
    stall_s: float = Field(description="Time spent preempted")
    e2e_s: float = Field(description="From arrival to the end")


class DoneFrame(_ServerFrame):
    """The turn has ended, and the next may begin."""

    type: Literal["done"] = "done"
    number: int = Field(description="Number of this end, one more than the last token's")
    finish_reason: FinishReason = Field(description="`stop`, `length`, `repetition` or `cancelled`")
    usage: TurnUsage = Field(description="Token counts")
    timings: TurnTimings = Field(description="Seconds")


class ErrorFrame(_ServerFrame):
    """A frame was refused and changed nothing, or, if there is a number, the turn has ended without a `done`."""

    type: Literal["error"] = "error"
    code: str = Field(description="What is wrong, for programs; the table of errors lists all codes")
    message: str = Field(description="What is wrong, for people")
    status: int = Field(description="HTTP status that stands for it")
    param: str | None = Field(None, description="Field that is wrong")
    request_id: str = Field(description="Id of the request in the server's log")
    retry_after_s: float | None = Field(None, description="Seconds after which to try again")
    number: int | None = Field(None, description="Number of this end, if it ends a turn")


ServerFrame = OpenedFrame | QueuedFrame | TokenFrame | PreemptedFrame | ResumedFrame | DoneFrame | ErrorFrame

_CLIENT: TypeAdapter[ClientFrame] = TypeAdapter(ClientFrame)


def parse_frame(value: Any) -> ClientFrame:
    """Return a decoded frame as its type. Raises `InvalidRequestError`, which names the first bad field."""
    try:
        frame = _CLIENT.validate_python(value)
    except ValidationError as error:
        raise refusal(error, tags=1) from None
    if isinstance(frame, TurnFrame):
        refuse_unsupported(frame)
    return frame


def error_frame(error: RequestError, request_id: str, number: int | None = None) -> ErrorFrame:
    """Return the frame of an error. ``number``: the number of the turn's end, if the error ends one."""
    return ErrorFrame(
        code=error.code,
        message=error.message,
        status=STATUS_AND_TYPE[error.code][0],
        param=error.param,
        request_id=request_id,
        retry_after_s=retry_after(error),
        number=number,
    )
