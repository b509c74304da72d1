"""The types of answers: OpenAI's, and vLLM's where OpenAI has none.

The code builds these types and the served OpenAPI document is made from them, so neither can drift from the other.
"""

from typing import Literal, NotRequired

from typing_extensions import TypedDict  # pydantic supports typing's own only from Python 3.12 on

from service.api.access.caller import ServedTier


class PromptDetails(TypedDict):
    """Details of the prompt. ``cached_tokens``: its tokens whose KV was there already."""

    cached_tokens: int


class SwitchFigures(TypedDict):
    """What context switches cost a request, in seconds, tokens and bytes; the sum or the worst of several choices."""

    queue_s: float
    stall_s: float
    preemptions: int
    recomputed_tokens: int
    swapped_bytes: int


class UsageCounts(TypedDict):
    """Token counts of a request, whose choices share a prompt. ``fastswitch`` is there once the request has ended."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    fastswitch: NotRequired[SwitchFigures]


class Head(TypedDict):
    """The fields that all parts of an answer share. ``created``: Unix seconds.

    ``service_tier``: how the request is served, if it asks for a tier.
    """

    id: str
    created: int
    model: str
    service_tier: NotRequired[ServedTier]


class TokenLogprob(TypedDict):
    """A token and its log-probability; -9999 stands for impossible."""

    token: str
    logprob: float
    bytes: list[int]


class ChosenLogprob(TokenLogprob):
    """A drawn token with the likeliest alternatives, likeliest first."""

    top_logprobs: list[TokenLogprob]


class ChatLogprobs(TypedDict):
    """Log-probabilities of a chat answer's tokens."""

    content: list[ChosenLogprob]
    refusal: None


class ChatMessage(TypedDict):
    """The answer of one choice."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """One choice of a whole chat answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None
    finish_reason: str


class ChatCompletion(Head):
    """A whole chat answer."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]
    usage: UsageCounts


class ChatDelta(TypedDict, total=False):
    """What a chunk adds to its choice."""

    role: Literal["assistant"]
    content: str


class ChatChunkChoice(TypedDict):
    """The choice that a chunk belongs to."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: str | None


class ChatChunk(Head):
    """One event of a streamed chat answer."""

    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]
    usage: NotRequired[UsageCounts]


class TextLogprobs(TypedDict):
    """Log-probabilities of a completion's tokens. ``text_offset``: where each token begins, in characters."""

    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


class TextChoice(TypedDict):
    """One choice of a completion, whole or in part."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: str | None


class TextCompletion(Head):
    """A whole completion."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: UsageCounts


class TextChunk(Head):
    """One event of a streamed completion."""

    object: Literal["text_completion"]
    choices: list[TextChoice]
    usage: NotRequired[UsageCounts]


class Tokens(TypedDict):
    """A text or a conversation as tokens. ``token_strs``: null unless asked for."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None


class Text(TypedDict):
    """Tokens as text."""

    prompt: str


class Model(TypedDict):
    """A model that is served."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int


class ModelList(TypedDict):
    """All models that are served."""

    object: Literal["list"]
    data: list[Model]


class ErrorDetails(TypedDict):
    """What went wrong. ``code`` is stable; ``request_id`` also stands in the log."""

    message: str
    type: str
    param: str | None
    code: str
    request_id: str


class ErrorBody(TypedDict):
    """An error, as a whole answer or as the last event of a stream."""

    error: ErrorDetails
