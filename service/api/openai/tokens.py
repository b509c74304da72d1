"""POST /tokenize and /detokenize, in vLLM's form: a text as the model's tokens, and back."""

from aiohttp import web

from service.api.body import with_body
from service.api.context import CALLER, DOOR, ServedModel
from service.api.openai.responses import Text, Tokens
from service.api.openai.schemas import parse_body
from service.api.openai.text_schemas import DetokenizeRequest, TokenizeRequest
from service.api.openai.turns import check_model, refuse_hopeless, refuse_long, refuse_unknown_tokens, render_chat
from service.api.sse import compact


async def tokenize(request: web.Request) -> web.Response:
    """Turn a text, or a conversation, into tokens."""
    with request.app[DOOR].enter(request[CALLER].tenant):
        return web.json_response(await with_body(request, _tokenize), dumps=compact)


async def detokenize(request: web.Request) -> web.Response:
    """Turn tokens into text, special tokens included."""
    with request.app[DOOR].enter(request[CALLER].tenant):
        return web.json_response(await with_body(request, _detokenize), dumps=compact)


def _tokenize(raw: bytes, model: ServedModel) -> Tokens:
    body = parse_body(TokenizeRequest, raw)
    check_model(body.model, model)
    tokens = _encode(body, model)
    refuse_long(len(tokens), model, "prompt" if body.messages is None else "messages")
    return {
        "count": len(tokens),
        "max_model_len": model.max_model_len,
        "tokens": tokens,
        "token_strs": [model.tokenizer.token_text(token) for token in tokens] if body.return_token_strs else None,
    }


def _encode(body: TokenizeRequest, model: ServedModel) -> list[int]:
    if body.messages is None:
        text, special = body.prompt or "", True
        refuse_hopeless(len(text), model, "prompt")
    else:
        messages = [message.for_template() for message in body.messages]
        text = render_chat(messages, model, body.chat_template_kwargs, body.add_generation_prompt)
        special = False
    special = special if body.add_special_tokens is None else body.add_special_tokens
    return model.tokenizer.encode_prompt(text) if special else model.tokenizer.encode(text)


def _detokenize(raw: bytes, model: ServedModel) -> Text:
    body = parse_body(DetokenizeRequest, raw)
    check_model(body.model, model)
    refuse_long(len(body.tokens), model, "tokens")
    refuse_unknown_tokens(body.tokens, model, "tokens")
    return {"prompt": model.tokenizer.decode(body.tokens, skip_special=False)}
