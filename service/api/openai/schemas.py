"""The fields of requests: OpenAI's, and vLLM's where OpenAI has none. Chat requests, and what all bodies share.

Types are strict. An unknown field is ignored, as OpenAI does, but an unsupported one that would change the answer is
refused: an answer that silently disregards it would be wrong.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from service.api.json_bounds import read_json
from service.core.messages.sampling import MAX_BIASED_TOKENS, MAX_LOGPROBS, RepetitionDetection
from service.errors import InvalidRequestError

MAX_CHOICES = 128  # over all prompts of a request
MAX_STOP_STRINGS = 64
MAX_STOP_LENGTH = 1000  # characters
MAX_PATTERN_SIZE = 256  # tokens; each may be compared at every token of the answer
MIN_REPETITIONS = 2

# Lists end at their first bad item: the errors of a million would be built with all other threads at a standstill.
Item = TypeVar("Item")
Listed = Annotated[list[Item], Field(fail_fast=True)]


def _few_biases(biases: Any) -> Any:
    if isinstance(biases, dict) and len(biases) > MAX_BIASED_TOKENS:
        raise ValueError(f"at most {MAX_BIASED_TOKENS} tokens may have a bias, got {len(biases)}")
    return biases


TokenId = Annotated[int, Field(strict=False)]  # the keys of a JSON object are strings
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Field(ge=-100, le=100)]],
    BeforeValidator(_few_biases),
    Field(max_length=MAX_BIASED_TOKENS, json_schema_extra={"propertyNames": {"pattern": "^[0-9]+$"}}),
]
TemplateVariables = dict[str, JsonValue]  # what a chat template reads beside the messages, such as `enable_thinking`

# Unsupported fields that change the answer, each with the values that do not, which are accepted.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "add_special_tokens": (None, False),
    "allowed_token_ids": (None,),
    "add_generation_prompt": (None, True),
    "audio": (None,),
    "bad_words": (None, []),
    "best_of": (None, 1),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
    "continue_final_message": (None, False),
    "documents": (None, []),
    "echo": (None, False),
    "function_call": (None, "none", "auto"),
    "functions": (None, []),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "guided_json": (None,),
    "guided_regex": (None,),
    "include_stop_str_in_output": (None, False),
    "logits_processors": (None, []),
    "min_tokens": (None, 0),
    "modalities": (None, [], ["text"]),
    "prompt_embeds": (None,),
    "prompt_logprobs": (None,),
    "return_token_ids": (None, False),
    "return_tokens_as_token_ids": (None, False),
    "response_format": (None, {"type": "text"}),
    "skip_special_tokens": (None, True),
    "structured_outputs": (None,),
    "suffix": (None, ""),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "truncate_prompt_tokens": (None,),
    "use_beam_search": (None, False),
    "web_search_options": (None,),
}


def _non_empty(salt: Any) -> Any:
    if not isinstance(salt, str) or not salt:
        raise ValueError("Parameter 'cache_salt' must be a non-empty string if provided.")  # vLLM's words
    return salt


CacheSalt = Annotated[str, BeforeValidator(_non_empty), Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class TextPart(_Model):
    """A part of a message. Images and sound are refused."""

    type: Literal["text"]
    text: str


def _only_text(schema: JsonSchemaValue) -> None:
    """Remove from the schema what the class accepts only in order to explain why it is refused."""
    schema["required"] = ["role", "content"]
    schema["properties"].pop("tool_calls")
    content = schema["properties"]["content"]
    content.pop("default")
    content["anyOf"].remove({"type": "null"})


class Message(_Model):
    """One message of the history."""

    model_config = ConfigDict(json_schema_extra=_only_text)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Listed[TextPart] | None = None
    tool_calls: list[Any] | None = None

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        if self.tool_calls:
            raise ValueError("tool_calls are not supported")
        if self.content is None:
            raise ValueError("content is missing")
        return self

    @property
    def text(self) -> str:
        """The content as one string."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""

    def for_template(self) -> dict[str, str]:
        """Return it as chat templates want it; they know OpenAI's newer role *developer* by its old name."""
        return {"role": "system" if self.role == "developer" else self.role, "content": self.text}


class StreamOptions(_Model):
    """How to stream. ``continuous_usage_stats``: every chunk, not only the last, has its choice's counts."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class RepetitionFields(_Model):
    """When an answer ends because it repeats itself, in vLLM's form. ``max_pattern_size`` 0: never."""

    max_pattern_size: int = Field(0, ge=0, le=MAX_PATTERN_SIZE)
    min_pattern_size: int = Field(0, ge=0, description="0 is as 1")
    min_count: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.max_pattern_size and self.min_count < MIN_REPETITIONS:
            raise ValueError(f"min_count must be at least {MIN_REPETITIONS}, got {self.min_count}")
        if self.min_pattern_size > self.max_pattern_size:
            raise ValueError(
                f"min_pattern_size {self.min_pattern_size} must be at most max_pattern_size {self.max_pattern_size}"
            )
        return self

    @property
    def for_core(self) -> RepetitionDetection | None:
        """The same for core."""
        if not self.max_pattern_size:
            return None
        return RepetitionDetection(self.max_pattern_size, max(1, self.min_pattern_size), self.min_count)


class Body(_Model):
    """The body of a request. Unknown fields are accepted, and null means that a field was left out."""

    model_config = ConfigDict(extra="allow")

    model: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, values: Any) -> Any:
        """Drop nulls, which mean "unset" in every one of OpenAI's fields."""
        return {k: v for k, v in values.items() if v is not None} if isinstance(values, dict) else values

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return a schema that allows null in the same way."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        required = schema.get("required", ())
        for name, field in schema["properties"].items():
            if name not in required and {"type": "null"} not in field.get("anyOf", ()):
                schema["properties"][name] = {"anyOf": [field, {"type": "null"}]}
        return schema


class SamplingFields(Body):
    """How to sample tokens and when to stop; common to all routes that generate."""

    n: int = Field(1, ge=1, le=MAX_CHOICES)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    repetition_penalty: float = Field(1.0, ge=0.01, le=10)  # a divisor: near 0 the result would be infinite
    logit_bias: LogitBias | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    stop: str | Listed[str] | None = None
    stop_token_ids: Listed[int] | None = Field(None, max_length=64)
    ignore_eos: bool = False
    repetition_detection: RepetitionFields | None = Field(
        None, description="When an answer ends because it repeats itself. Left out: as the server is set up"
    )
    priority: int | None = Field(None, ge=-(2**31), lt=2**31)
    service_tier: Literal["auto", "default", "flex", "priority", "scale"] | None = Field(
        None, description="flex: background work, which gets what all other work leaves; all others are the default"
    )
    user: str | None = Field(None, max_length=512)
    cache_salt: CacheSalt | None = Field(
        None, description="Only requests with the same salt reuse each other's KV, as with vLLM"
    )

    @field_validator("stop")
    @classmethod
    def _stop_bounded(cls, stop: str | list[str] | None) -> str | list[str] | None:
        strings = [stop] if isinstance(stop, str) else stop or []
        if len(strings) > MAX_STOP_STRINGS:
            raise ValueError(f"at most {MAX_STOP_STRINGS} stop strings are allowed")
        if not all(0 < len(string) <= MAX_STOP_LENGTH for string in strings):
            raise ValueError(f"a stop string must have 1 to {MAX_STOP_LENGTH} characters")
        return stop

    @model_validator(mode="after")
    def _streams_with_options(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options need stream to be true")
        return self

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the token counts."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def wants_usage_always(self) -> bool:
        """Whether each chunk of a stream has them, too."""
        return self.wants_usage and self.stream_options is not None and self.stream_options.continuous_usage_stats

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """``stop`` as a tuple."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class ConversationFields(SamplingFields):
    """The fields that a chat request shares with a turn of the chat stream."""

    max_completion_tokens: int | None = Field(None, ge=1, description="Another name of max_tokens, which it overrides")
    chat_template_kwargs: TemplateVariables = Field({}, description="Variables that the chat template reads")

    @property
    def answer_limit(self) -> int | None:
        """The limit of the answer under either of its names, in tokens."""
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class ChatRequest(ConversationFields):
    """The body of POST /v1/chat/completions."""

    messages: Listed[Message] = Field(min_length=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs to be true")
        return self


AnyBody = TypeVar("AnyBody", bound=Body)


def parse_body(kind: type[AnyBody], raw: bytes) -> AnyBody:
    """Return a request's body as ``kind``. Raises `InvalidRequestError`, which names the first bad field."""
    try:
        body = kind.model_validate(read_json(raw))
    except ValidationError as error:
        raise refusal(error) from None
    except ValueError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}") from None
    refuse_unsupported(body)
    return body


def checked_defaults(wanted: Mapping[str, Any]) -> dict[str, float]:
    """Return a model's sampling defaults, if a request could ask for them. Raises `InvalidRequestError`."""
    try:
        fields = SamplingFields.model_validate(wanted)
    except ValidationError as error:
        raise refusal(error) from None
    return {name: getattr(fields, name) for name in wanted}


def refuse_unsupported(body: Body) -> None:
    """Raise `InvalidRequestError` if a body asks for something unsupported that would change the answer."""
    for name, neutral in UNSUPPORTED.items():
        if (body.model_extra or {}).get(name) not in neutral:
            raise InvalidRequestError(f"{name} is not supported", param=name)


def refusal(error: ValidationError, tags: int = 0) -> InvalidRequestError:
    """Return an error for the deepest problem: it belongs to the alternative of a union that the value came nearest to.

    ``tags``: how many names of a tagged union's alternatives a field's path begins with.
    """
    problem = max(error.errors(include_url=False, include_input=False), key=lambda each: len(_path(each["loc"])))
    is_object = problem["type"] in ("model_type", "model_attributes_type")  # pydantic's text names our class
    message = "Input should be an object" if is_object else problem["msg"].removeprefix("Value error, ")
    param = ".".join(_path(problem["loc"][tags:])) or None
    return InvalidRequestError(f"{param}: {message}" if param else message, param=param)


def _path(location: tuple[int | str, ...]) -> list[str]:
    """Return a field's path without pydantic's names for a union's alternatives."""
    return [str(part) for part in location if part not in ("str", "constrained-str") and not str(part).endswith("]")]
