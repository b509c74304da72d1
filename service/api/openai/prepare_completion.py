"""From the body of a completion request to its turns, as `service.api.openai.prepare` does for chats."""

from collections.abc import Iterator, Sequence

from service.api.access.caller import Caller
from service.api.context import ServedModel
from service.api.openai.completion_format import CompletionFormat
from service.api.openai.prepare import (
    Prepared,
    answer_room,
    bound_report,
    check_model,
    head_of,
    make_turns,
    refuse_hopeless,
    refuse_unknown_tokens,
)
from service.api.openai.schemas import parse_body
from service.api.openai.text_schemas import CompletionRequest
from service.engine import Turn
from service.errors import InvalidRequestError


def prepare_completion(raw: bytes, model: ServedModel, answer_id: str, caller: Caller) -> Prepared:
    """Validate, tokenise, bound. Raises `InvalidRequestError`, `ModelNotFoundError` or `PriorityError`."""
    body = parse_body(CompletionRequest, raw)
    check_model(body.model, model)
    bound_report(len(body.prompts) * body.n * body.max_tokens, body.logprobs, "logprobs")
    turns = tuple(_turns(body, model, answer_id, caller))
    echoes = [_echo(prompt, model) if body.echo else "" for prompt in body.prompts for _ in range(body.n)]
    return Prepared(body, turns, CompletionFormat(head_of(answer_id, model), model.tokenizer, echoes))


def _turns(body: CompletionRequest, model: ServedModel, answer_id: str, caller: Caller) -> Iterator[Turn]:
    """Each prompt starts from the same seed, so that its answers do not depend on its neighbours."""
    several = len(body.prompts) > 1
    for index, prompt in enumerate(body.prompts):
        tokens = _tokens(prompt, model, body.add_special_tokens)
        yield from make_turns(
            body,
            prompt=tokens,
            max_tokens=answer_room(len(tokens), body.max_tokens, model, "prompt"),
            logprobs=body.logprobs,
            model=model,
            request_id=f"{answer_id}-{index}" if several else answer_id,
            caller=caller,
            several_prompts=several,
        )


def _tokens(prompt: str | Sequence[int], model: ServedModel, special: bool) -> tuple[int, ...]:
    if isinstance(prompt, str):
        refuse_hopeless(len(prompt), model, "prompt")
        tokenizer = model.tokenizer
        tokens = tuple(tokenizer.encode_prompt(prompt) if special else tokenizer.encode(prompt))
    else:
        refuse_unknown_tokens(prompt, model, "prompt")
        tokens = tuple(prompt)
    if not tokens:
        raise InvalidRequestError("the prompt is empty", param="prompt")
    return tokens


def _echo(prompt: str | Sequence[int], model: ServedModel) -> str:
    return prompt if isinstance(prompt, str) else model.tokenizer.decode(prompt, skip_special=False)
