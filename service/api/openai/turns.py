"""The path that every route takes to the engine: what was asked for is bounded, and becomes turns.

A route states what differs in a `GenerationRequest`; `make_turns` does the rest. Requests that could never be served
are refused here, before core learns of them. The functions run in an executor, since tokenising takes long.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from service.api.access.caller import Caller
from service.api.context import ServedModel
from service.api.openai.schemas import SamplingFields
from service.core.messages.commands import Submit
from service.core.messages.sampling import RepetitionDetection, SamplingParams
from service.engine import Turn
from service.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError, NeverFitsError

MAX_REPORTED_LOGPROBS = 1_000_000  # of one request, over all its choices and tokens: they wait in memory

_SEED_MASK = 2**63 - 1

PromptField = Literal["messages", "prompt"]


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """What a route wants generated: ``body.n`` answers to each of ``prompts``, which are token ids."""

    request_id: str
    body: SamplingFields
    prompts: Sequence[tuple[int, ...]]
    prompt_field: PromptField  # where the body has them, for error messages
    max_tokens: int | None  # of each answer; None: as the server is set up
    logprobs: int | None = None  # alternatives reported for each token; None: no log-probabilities
    logprobs_field: str = "logprobs"
    session: str | None = None  # name of the chat session that the turn belongs to


def make_turns(asked: GenerationRequest, model: ServedModel, caller: Caller) -> tuple[Turn, ...]:
    """Return one turn for each choice of each prompt.

    Raises `InvalidRequestError`, `ContextLengthError`, `NeverFitsError` or `PriorityError`.
    """
    body = asked.body
    limits = [answer_limit(len(prompt), asked.max_tokens, model, asked.prompt_field) for prompt in asked.prompts]
    _refuse_large_report(body.n * sum(limits), asked.logprobs, asked.logprobs_field)
    refuse_unknown_tokens(body.logit_bias or (), model, "logit_bias")
    refuse_unknown_tokens(body.stop_token_ids or (), model, "stop_token_ids")
    scope, priority = caller.scope(body.user, body.cache_salt), caller.priority(body.priority)
    background = caller.tier(body.service_tier) == "flex"
    sampling_fields = _with_defaults(body, model.defaults.sampling)
    stop_tokens = frozenset(body.stop_token_ids or ()) | (frozenset() if body.ignore_eos else model.stop_tokens)

    def turn(request_id: str, prompt: tuple[int, ...], max_tokens: int, seed: int) -> Turn:
        submit = Submit(
            request_id=request_id,
            prompt=prompt,
            max_tokens=max_tokens,
            sampling_params=_sampling_params(sampling_fields, seed & _SEED_MASK, asked.logprobs, model),
            stop_tokens=stop_tokens,
            scope=scope,
            priority=priority,
            tenant=caller.charged,
            user=body.user or "",
            weight=caller.tenant.weight,
            background=background,
            max_idle_sessions=caller.tenant.max_sessions,
            session=asked.session,
            repetition=_repetition_detection(body, model),
        )
        return Turn(submit, body.stop_strings, caller.request_id)

    turns: list[Turn] = []
    for prompt_id, prompt, limit in zip(_numbered(asked.request_id, len(limits)), asked.prompts, limits, strict=True):
        # A client's seed is the same for each prompt, so that no answer depends on its neighbours.
        seed = secrets.randbits(63) if body.seed is None else body.seed
        turns += (turn(name, prompt, limit, seed + choice) for choice, name in enumerate(_numbered(prompt_id, body.n)))
    return tuple(turns)


def _numbered(name: str, count: int) -> list[str]:
    """Return ``count`` ids that begin with ``name``, which itself is the id where there is one alone."""
    return [name] if count == 1 else [f"{name}-{index}" for index in range(count)]


def encode_chat(
    messages: Sequence[Mapping[str, str]], model: ServedModel, variables: Mapping[str, JsonValue]
) -> tuple[int, ...]:
    """Return a history as prompt tokens; the template also reads ``variables``. Raises `InvalidRequestError`."""
    text = render_chat(messages, model, variables)
    return tuple(model.tokenizer.encode(text))


def render_chat(
    messages: Sequence[Mapping[str, str]],
    model: ServedModel,
    variables: Mapping[str, JsonValue],
    add_generation_prompt: bool = True,
) -> str:
    """Return a history as text. Raises `InvalidRequestError`, before rendering if the history alone is hopeless."""
    refuse_hopeless(sum(len(message["content"]) for message in messages), model, "messages")
    text = model.chat_template.render(messages, add_generation_prompt, variables)
    refuse_hopeless(len(text), model, "messages")
    return text


def check_history(texts: Sequence[str], model: ServedModel) -> None:
    """Raise `ContextLengthError` or `NeverFitsError` if a conversation of this length could not go on."""
    refuse_hopeless(sum(map(len, texts)), model, "messages")
    answer_limit(len(model.tokenizer.encode("".join(texts))), None, model, "messages")


def check_model(name: str | None, model: ServedModel) -> None:
    """Raise `ModelNotFoundError` unless ``name`` is the served model or left out."""
    if name is not None and name != model.name:
        raise ModelNotFoundError(f"the model {name!r} is not served here; {model.name!r} is", param="model")


def answer_limit(prompt_tokens: int, asked: int | None, model: ServedModel, param: PromptField) -> int:
    """Return the tokens that the answer may have: as asked for, or by default, or all that is left.

    Raises `ContextLengthError` or `NeverFitsError` if not even that much is possible.
    """
    total = prompt_tokens + (asked or 1)
    if total > model.max_model_len:
        raise ContextLengthError(
            f"This model's maximum context length is {model.max_model_len} tokens. However, you requested "
            f"{total} tokens ({prompt_tokens} in the {param}, {asked or 1} in the completion). "
            f"Please reduce the length of the {param} or completion.",
            param=param,
        )
    if total > model.capacity_tokens:
        raise NeverFitsError(
            f"The KV memory of this server holds {model.capacity_tokens} tokens. However, you requested "
            f"{total} tokens ({prompt_tokens} in the {param}, {asked or 1} in the completion).",
            param=param,
        )
    left = min(model.max_model_len, model.capacity_tokens) - prompt_tokens
    return asked or min(left, model.defaults.max_tokens or left)


def refuse_unknown_tokens(ids: Iterable[int], model: ServedModel, param: str) -> None:
    """Raise `InvalidRequestError` for a token id that the model does not have."""
    for token in ids:
        if not 0 <= token < model.vocab_size:
            raise InvalidRequestError(
                f"{param}: there is no token {token}, ids end at {model.vocab_size - 1}", param=param
            )


def refuse_long(tokens: int, model: ServedModel, param: str) -> None:
    """Raise `ContextLengthError` for more tokens than the model's context has."""
    if tokens > model.max_model_len:
        raise ContextLengthError(
            f"This model's maximum context length is {model.max_model_len} tokens. However, your {param} have "
            f"{tokens} tokens. Please reduce their length.",
            param=param,
        )


def refuse_hopeless(characters: int, model: ServedModel, param: PromptField) -> None:
    """Raise `ContextLengthError`, without tokenising, for a text too long even if all its tokens were the longest."""
    fewest = characters // model.longest_token_bytes
    if fewest > model.max_model_len:
        raise ContextLengthError(
            f"This model's maximum context length is {model.max_model_len} tokens. However, your {param} have "
            f"{characters} characters, which are at least {fewest} tokens. Please reduce their length.",
            param=param,
        )


def _refuse_large_report(tokens: int, logprobs: int | None, param: str) -> None:
    """Raise `InvalidRequestError` if ``logprobs`` alternatives at each of up to ``tokens`` tokens are too many."""
    if logprobs is not None and tokens * (1 + logprobs) > MAX_REPORTED_LOGPROBS:
        raise InvalidRequestError(
            f"{tokens} tokens with {logprobs} alternatives each are more than the {MAX_REPORTED_LOGPROBS} "
            "log-probabilities that one answer may hold: ask for fewer, or for fewer tokens",
            param=param,
        )


def _repetition_detection(body: SamplingFields, model: ServedModel) -> RepetitionDetection | None:
    """Return when the answer ends for repeating itself. Who ignores its end otherwise wants its whole length."""
    if body.repetition_detection is not None:
        return body.repetition_detection.for_core
    return None if body.ignore_eos else model.defaults.repetition_detection


def _with_defaults(body: SamplingFields, defaults: Mapping[str, float]) -> SamplingFields:
    return body.model_copy(update={name: defaults[name] for name in defaults.keys() - body.model_fields_set})


def _sampling_params(body: SamplingFields, seed: int, logprobs: int | None, model: ServedModel) -> SamplingParams:
    return SamplingParams(
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=min(max(0, body.top_k), model.vocab_size),
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repetition_penalty=body.repetition_penalty,
        seed=seed,
        logprobs=logprobs,
        logit_bias=dict(body.logit_bias or {}),
    )
