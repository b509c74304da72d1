"""From a request's body to the turns that the engine takes. Runs in an executor: it renders and tokenises.

What could never be served is refused here, before core hears of it.
"""

import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from service.api.access.caller import Caller
from service.api.context import ServedModel
from service.api.openai.answer import AnswerFormat
from service.api.openai.chat_format import ChatFormat
from service.api.openai.responses import Head
from service.api.openai.schemas import ChatRequest, SamplingFields, parse_body
from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.engine import Turn
from service.errors import ContextLengthError, InvalidRequestError, ModelNotFoundError, NeverFitsError

MAX_REPORTED_LOGPROBS = 1_000_000  # of one request, over all its choices and tokens: they wait in memory

_SEED_MASK = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may run: one turn for each choice, and the form of its answer."""

    body: SamplingFields
    turns: tuple[Turn, ...]
    form: AnswerFormat


def prepare_chat(raw: bytes, model: ServedModel, answer_id: str, caller: Caller) -> Prepared:
    """Validate, render, tokenise, bound. Raises `InvalidRequestError`, `ModelNotFoundError` or `PriorityError`."""
    body = parse_body(ChatRequest, raw)
    check_model(body.model, model)
    messages = [message.for_template() for message in body.messages]
    prompt = encode_chat(messages, model, body.chat_template_kwargs)
    limit = answer_room(len(prompt), body.answer_limit, model)
    logprobs = (body.top_logprobs or 0) if body.logprobs else None
    bound_report(body.n * limit, logprobs, "top_logprobs")
    turns = make_turns(
        body,
        prompt=prompt,
        max_tokens=limit,
        logprobs=logprobs,
        model=model,
        request_id=answer_id,
        caller=caller,
    )
    return Prepared(body, turns, ChatFormat(head_of(answer_id, model), model.tokenizer, body.n))


def head_of(answer_id: str, model: ServedModel) -> Head:
    """The head of an answer that begins now."""
    return {"id": answer_id, "created": int(time.time()), "model": model.name}


def check_history(texts: Sequence[str], model: ServedModel) -> None:
    """Raise `ContextLengthError` or `NeverFitsError` if a conversation so long could not go on."""
    refuse_hopeless(sum(map(len, texts)), model)
    answer_room(len(model.tokenizer.encode("".join(texts))), None, model)


def encode_chat(
    messages: Sequence[Mapping[str, str]], model: ServedModel, variables: Mapping[str, JsonValue]
) -> tuple[int, ...]:
    """A history as prompt tokens, written by the template with further ``variables``. Raises `InvalidRequestError`."""
    text = model.chat_template.render(messages, variables=variables)
    refuse_hopeless(len(text), model)
    return tuple(model.tokenizer.encode(text))


def check_model(name: str | None, model: ServedModel) -> None:
    """Raise `ModelNotFoundError` unless ``name`` is the served model or left out."""
    if name is not None and name != model.name:
        raise ModelNotFoundError(f"the model {name!r} is not served here; {model.name!r} is", param="model")


def answer_room(prompt_tokens: int, asked: int | None, model: ServedModel, param: str = "messages") -> int:
    """Tokens that the answer may have: as asked, or all that is left.

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
    return asked or min(model.max_model_len, model.capacity_tokens) - prompt_tokens


def make_turns(
    body: SamplingFields,
    *,
    prompt: tuple[int, ...],
    max_tokens: int,
    logprobs: int | None,
    model: ServedModel,
    request_id: str,
    caller: Caller,
    several_prompts: bool = False,
    session: str | None = None,
) -> tuple[Turn, ...]:
    """One turn for each choice. Several choices, or prompts, are no conversation: they adopt no session."""
    refuse_unknown_tokens(body.logit_bias or (), model, "logit_bias")
    refuse_unknown_tokens(body.stop_token_ids or (), model, "stop_token_ids")
    seed = secrets.randbits(63) if body.seed is None else body.seed & _SEED_MASK
    scope = caller.scope(body.user)
    priority = caller.priority(body.priority)
    sampling = _with_defaults(body, model.sampling_defaults)
    stop_tokens = frozenset(body.stop_token_ids or ()) | (frozenset() if body.ignore_eos else model.stop_tokens)

    def turn(choice: int) -> Turn:
        submit = Submit(
            request_id=request_id if body.n == 1 else f"{request_id}-{choice}",
            prompt=prompt,
            max_tokens=max_tokens,
            sampling_params=_sampling(sampling, (seed + choice) & _SEED_MASK, logprobs, model),
            stop_tokens=stop_tokens,
            scope=None if several_prompts or body.n > 1 else scope,
            priority=priority,
            tenant=scope[0],
            weight=caller.tenant.weight,
            max_idle_sessions=caller.tenant.max_sessions,
            session=session,
        )
        return Turn(submit, body.stop_strings, caller.request_id)

    return tuple(turn(choice) for choice in range(body.n))


def refuse_unknown_tokens(ids: Iterable[int], model: ServedModel, param: str) -> None:
    """Raise `InvalidRequestError` for a token id that the model does not have."""
    for token in ids:
        if not 0 <= token < model.vocab_size:
            raise InvalidRequestError(
                f"{param}: there is no token {token}, ids end at {model.vocab_size - 1}", param=param
            )


def _with_defaults(body: SamplingFields, defaults: Mapping[str, float]) -> SamplingFields:
    return body.model_copy(update={name: defaults[name] for name in defaults.keys() - body.model_fields_set})


def _sampling(body: SamplingFields, seed: int, logprobs: int | None, model: ServedModel) -> SamplingParams:
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


def bound_report(tokens: int, logprobs: int | None, param: str) -> None:
    """Refuse a request whose log-probabilities, of so many alternatives at up to ``tokens`` tokens, are too many."""
    if logprobs is not None and tokens * (1 + logprobs) > MAX_REPORTED_LOGPROBS:
        raise InvalidRequestError(
            f"{tokens} tokens with {logprobs} alternatives each are more than the {MAX_REPORTED_LOGPROBS} "
            "log-probabilities that one answer may hold: ask for fewer, or for fewer tokens",
            param=param,
        )


def refuse_hopeless(characters: int, model: ServedModel, param: str = "messages") -> None:
    """Refuse, without tokenising it, a text that is too long even if every token were the longest there is."""
    fewest = characters // model.longest_token_bytes
    if fewest > model.max_model_len:
        raise ContextLengthError(
            f"This model's maximum context length is {model.max_model_len} tokens. However, your {param} have "
            f"{characters} characters, which are at least {fewest} tokens. Please reduce their length.",
            param=param,
        )
