"""The preparation of chat and completion requests: a body becomes turns and the form of their answer.

It runs in an executor, since it tokenises.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.api.access.caller import Caller
from service.api.context import ServedModel
from service.api.openai.answer import AnswerFormat
from service.api.openai.chat_format import ChatFormat
from service.api.openai.completion_format import CompletionFormat
from service.api.openai.responses import Head
from service.api.openai.schemas import ChatRequest, SamplingFields, parse_body
from service.api.openai.text_schemas import CompletionRequest
from service.api.openai.turns import (
    GenerationRequest,
    check_model,
    encode_chat,
    make_turns,
    refuse_hopeless,
    refuse_unknown_tokens,
)
from service.engine import Turn
from service.errors import InvalidRequestError


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that may run: one turn for each choice, and the form of its answer."""

    body: SamplingFields
    turns: tuple[Turn, ...]
    form: AnswerFormat


def prepare_chat(raw: bytes, model: ServedModel, answer_id: str, caller: Caller) -> Prepared:
    """Validate a chat request and make its turns. Raises as `make_turns` does, and `ModelNotFoundError`."""
    body = parse_body(ChatRequest, raw)
    check_model(body.model, model)
    prompt = encode_chat([message.for_template() for message in body.messages], model, body.chat_template_kwargs)
    asked = GenerationRequest(
        answer_id,
        body,
        [prompt],
        "messages",
        max_tokens=body.answer_limit,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        logprobs_field="top_logprobs",
    )
    form = ChatFormat(_head(answer_id, model, body, caller), model.tokenizer, body.n)
    return Prepared(body, make_turns(asked, model, caller), form)


def prepare_completion(raw: bytes, model: ServedModel, answer_id: str, caller: Caller) -> Prepared:
    """Validate a completion request and make its turns. Raises as `make_turns` does, and `ModelNotFoundError`."""
    body = parse_body(CompletionRequest, raw)
    check_model(body.model, model)
    prompts = [_encode(prompt, model, body.add_special_tokens) for prompt in body.prompts]
    asked = GenerationRequest(answer_id, body, prompts, "prompt", max_tokens=body.max_tokens, logprobs=body.logprobs)
    echoes = [_echo(prompt, model) if body.echo else "" for prompt in body.prompts for _ in range(body.n)]
    form = CompletionFormat(_head(answer_id, model, body, caller), model.tokenizer, echoes)
    return Prepared(body, make_turns(asked, model, caller), form)


def _head(answer_id: str, model: ServedModel, body: SamplingFields, caller: Caller) -> Head:
    """Return the head of an answer that begins now. It says how the request is served, if that was asked."""
    head: Head = {"id": answer_id, "created": int(time.time()), "model": model.name}
    if body.service_tier is not None:
        head["service_tier"] = caller.tier(body.service_tier)
    return head


def _encode(prompt: str | Sequence[int], model: ServedModel, special: bool) -> tuple[int, ...]:
    if isinstance(prompt, str):
        refuse_hopeless(len(prompt), model, "prompt")
        tokens = tuple(model.tokenizer.encode_prompt(prompt) if special else model.tokenizer.encode(prompt))
    else:
        refuse_unknown_tokens(prompt, model, "prompt")
        tokens = tuple(prompt)
    if not tokens:
        raise InvalidRequestError("the prompt is empty", param="prompt")
    return tokens


def _echo(prompt: str | Sequence[int], model: ServedModel) -> str:
    return prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt, skip_special=False)
