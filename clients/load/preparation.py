"""What a run asks of the server before its clock starts: the model, and how long a word is."""

from contextlib import aclosing
from dataclasses import replace

from clients.errors import ClientError, NotFoundError
from clients.load.openai import OpenAITarget
from clients.load.target import Asked, Target, Told
from clients.load.words import Writer

# `owned_by` of servers that take `ignore_eos`; others refuse it or leave it out.
TAKE_IGNORE_EOS = {"fastswitch", "vllm", "sglang"}

FEW, MANY = 8, 72  # words


async def choose_model(server: OpenAITarget, wanted: str | None) -> tuple[str, bool]:
    """The model to ask for, and whether its server is known to take ``ignore_eos``. Raises `ClientError`."""
    try:
        offered = (await server.get("/v1/models")).get("data") or []
    except NotFoundError:
        offered = []  # a server that offers nothing else may still answer
    chosen = next((model for model in offered if wanted in (None, model.get("id"))), None)
    if chosen is None and wanted is None:
        raise ClientError(f"{server.base_url} offers no model; name one with --model")
    if chosen is None:
        return str(wanted), False
    return str(chosen["id"]), chosen.get("owned_by") in TAKE_IGNORE_EOS


async def tokens_a_word(target: Target, writer: Writer, asked: Asked) -> float:
    """How many tokens a word of ours is to this server, from the usage of two short requests; 1 if it tells none."""
    counts = [await _prompt_tokens(target, writer, number, asked) for number in (FEW, MANY)]
    if None in counts:
        return 1.0
    few, many = (count or 0 for count in counts)
    return max(many - few, 1) / (MANY - FEW)


async def _prompt_tokens(target: Target, writer: Writer, words: int, asked: Asked) -> int | None:
    told = Told()
    talk = target.talk(None)
    question = " ".join(writer.words([3], words))
    try:
        answer = talk.answer([{"role": "user", "content": question}], replace(asked, max_tokens=1), told)
        async with aclosing(answer) as pieces:
            async for _ in pieces:
                pass
    finally:
        await talk.close()
    return told.prompt_tokens
