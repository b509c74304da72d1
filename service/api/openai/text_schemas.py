"""The fields of requests about bare text and tokens."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from service.api.openai.schemas import MAX_CHOICES, Body, Listed, Message, SamplingFields, TemplateVariables
from service.core.messages.sampling import MAX_LOGPROBS

TokenIds = Annotated[Listed[int], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[Listed[Text], Field(min_length=1, max_length=MAX_CHOICES)]
TokenLists = Annotated[Listed[TokenIds], Field(min_length=1, max_length=MAX_CHOICES)]


class CompletionRequest(SamplingFields):
    """The body of POST /v1/completions. ``prompt``: one or several, as text or as token ids.

    ``add_special_tokens``: whether to add those that the model wants around a text.
    """

    prompt: Text | Texts | TokenIds | TokenLists
    add_special_tokens: bool = True
    max_tokens: int = Field(16, ge=1)
    echo: bool = False
    logprobs: int | None = Field(None, ge=0, le=MAX_LOGPROBS)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.echo and self.logprobs is not None:
            raise ValueError("log-probabilities of an echoed prompt are not supported")
        if (choices := len(self.prompts) * self.n) > MAX_CHOICES:
            raise ValueError(f"{len(self.prompts)} prompts make {choices} choices, the limit is {MAX_CHOICES}")
        return self

    @property
    def prompts(self) -> list[str | list[int]]:
        """``prompt`` as a list."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [each for each in self.prompt if isinstance(each, int)]
        return [ids] if ids else [each for each in self.prompt if not isinstance(each, int)]


def _only(name: str, other: str) -> dict[str, JsonValue]:
    """Return the schema of bodies that have one field and not another; null counts as absent."""
    null: dict[str, JsonValue] = {"type": "null"}
    return {"required": [name], "properties": {name: {"not": null}, other: null}}


class TokenizeRequest(Body):
    """The body of POST /tokenize: a text, or a conversation as the chat template writes it.

    ``add_special_tokens``: whether to add those that the model wants around a bare prompt. If left out, a text gets
    them, and a conversation, whose template has its own, does not.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [_only("prompt", "messages"), _only("messages", "prompt")]})

    prompt: str | None = None
    messages: Listed[Message] | None = Field(None, min_length=1)
    add_generation_prompt: bool = True
    chat_template_kwargs: TemplateVariables = {}
    add_special_tokens: bool | None = None
    return_token_strs: bool = False

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("exactly one of prompt and messages is needed")
        return self


class DetokenizeRequest(Body):
    """The body of POST /detokenize."""

    tokens: Listed[int]
