"""What a run asks the server before its clock starts: its model, and how many tokens a word has."""

from contextlib import aclosing
from dataclasses import replace

from clients.errors import ClientError, NotFoundError
from clients.load.openai import OpenAITarget
from clients.load.target import ServerFigures, Target, TurnRequest
from clients.load.words import Writer

# The `owned_by` of servers that accept `ignore_eos`; others refuse or ignore it.
TAKE_IGNORE_EOS = {"fastswitch", "vllm", "sglang"}

FEW, MANY = 8, 72  # words


async def choose_model(server: OpenAITarget, wanted: str | None) -> tuple[str, bool]:
    """Return the model to ask for, and whether its server is known to accept ``ignore_eos``. Raises `ClientError`."""
    try:
        offered = (await server.get("/v1/models")).get("data") or []
    except NotFoundError:
        offered = []  # a server without this route may still answer chats
    chosen = next((model for model in offered if wanted in (None, model.get("id"))), None)
    if chosen is None and wanted is None:
        raise ClientError(f"{server.base_url} offers no model; name one with --model")
    if chosen is None:
        return str(wanted), False
    return str(chosen["id"]), chosen.get("owned_by") in TAKE_IGNORE_EOS


async def measure_tokens_per_word(target: Target, writer: Writer, request: TurnRequest) -> float:
    """Return how many tokens the server counts for a word, from the usage of two short requests; 1 if it has none."""
    counts = [await _prompt_tokens(target, writer, number, request) for number in (FEW, MANY)]
    if None in counts:
        return 1.0
    few, many = (count or 0 for count in counts)
    return max(many - few, 1) / (MANY - FEW)


async def _prompt_tokens(target: Target, writer: Writer, words: int, request: TurnRequest) -> int | None:
    figures = ServerFigures()
    session = target.open_session(None)
    question = " ".join(writer.words([3], words))
    try:
        answer = session.answer([{"role": "user", "content": question}], replace(request, max_tokens=1), figures)
        async with aclosing(answer) as pieces:
            async for _ in pieces:
                pass
    finally:
        await session.close()
    return figures.prompt_tokens
