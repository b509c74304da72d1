"""Overlapping chats of ordinary clients, and clients that have nothing in common but a system prompt."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from allocator import BLOCK_TOKENS
from benchmarks.peers.client import Messages
from benchmarks.peers.commands import serve
from benchmarks.peers.load import SYSTEM_WORDS, TEMPLATE_TOKENS, prompt, words
from benchmarks.peers.server import PeerServer, running
from benchmarks.prefix.clients import CLIENTS, Question, Reply
from benchmarks.prefix.counters import Counts, settled
from benchmarks.prefix.trace import block_bytes

Ask = Callable[[Question], Reply]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the chats, and of the one system prompt of ``strangers``."""

    conversations: int = 42
    turns: int = 3
    turn_words: int = 64
    max_tokens: tuple[int, int] = (48, 96)  # evenly between
    begin_s: float = 20.0  # in which all conversations begin
    think_s: float = 2.0
    system_words: int = 600
    kv_blocks: int = 2_000  # of memory: more than all chats of a client need


async def measure(model: Path, flags: str, sizes: Sizes) -> dict[str, Any]:
    """Return what each client got, each at a server of its own, and what strangers got of one system prompt."""
    command = serve(model, f"--device-kv {sizes.kv_blocks * block_bytes(model)}", flags)
    clients = {}
    for name, ask in CLIENTS.items():
        async with running(command, model) as server:
            clients[name] = await chats(server, name, ask, sizes)
    async with running(command, model) as server:
        beside = await strangers(server, sizes)
    return {"command": command, "sizes": asdict(sizes), "clients": clients, "strangers": beside}


async def chats(server: PeerServer, name: str, ask: Ask, sizes: Sizes) -> dict[str, Any]:
    """Return what a client got in overlapping chats."""
    blank = Question(server.client.url, await server.client.only_model(), [], 0)
    before = await settled(blank.url)
    began = time.monotonic()

    def chat(number: int) -> list[Reply]:
        rng = random.Random(f"{name} {number}")
        time.sleep(max(0.0, began + rng.uniform(0, sizes.begin_s) - time.monotonic()))
        return _converse(ask, blank, f"{name} {number}", rng, sizes)

    with ThreadPoolExecutor(sizes.conversations) as threads:
        loop = asyncio.get_running_loop()
        made = await asyncio.gather(*(loop.run_in_executor(threads, chat, n) for n in range(sizes.conversations)))
    return figures(made, (await settled(blank.url)).since(before))


def _converse(ask: Ask, blank: Question, key: str, rng: random.Random, sizes: Sizes) -> list[Reply]:
    """Return the replies of a chat, in which what the assistant said is sent back."""
    messages = prompt(key, TEMPLATE_TOKENS + SYSTEM_WORDS + sizes.turn_words)
    replies: list[Reply] = []
    for turn in range(sizes.turns):
        if turn:
            time.sleep(sizes.think_s)
            messages += [_says("assistant", replies[-1].text), _says("user", f"{key}, {turn}", sizes.turn_words)]
        replies.append(ask(replace(blank, messages=messages, max_tokens=rng.randint(*sizes.max_tokens))))
    return replies


def _says(role: str, text: str, count: int | None = None) -> dict[str, str]:
    return {"role": role, "content": text if count is None else " ".join(words(text, count))}


def figures(chats: Sequence[Sequence[Reply]], counted: Counts) -> dict[str, Any]:
    """Return what usage says, and what the runner computed beside it.

    A later turn's history is the prompt and the answer before it; ``missed`` are tokens of it that were not reused.
    ``prompt_missed`` counts later turns that did not reuse all whole blocks of the prompt before them.
    """
    later = [pair for chat in chats for pair in pairwise(chat)]
    missed = [before.prompt_tokens + before.completion_tokens - after.cached_tokens for before, after in later]
    whole = [before.prompt_tokens // BLOCK_TOKENS * BLOCK_TOKENS for before, _ in later]
    return {
        **_tokens([reply for chat in chats for reply in chat], counted),
        "later_turns": len(later),
        "history_tokens": sum(before.prompt_tokens + before.completion_tokens for before, _ in later),
        "missed_p50": float(np.median(missed)),
        "missed_max": max(missed),
        "prompt_missed": sum(after.cached_tokens < least for (_, after), least in zip(later, whole, strict=True)),
    }


def _tokens(replies: Sequence[Reply], counted: Counts) -> dict[str, int]:
    """Return tokens of prompts. ``unsaid``: how many more the runner computed than usage leaves."""
    prompts, cached = sum(each.prompt_tokens for each in replies), sum(each.cached_tokens for each in replies)
    return {
        "turns": len(replies),
        "prompt_tokens": prompts,
        "cached_tokens": cached,
        "computed_tokens": counted.computed,
        "unsaid": counted.computed - (prompts - cached),
    }


async def strangers(server: PeerServer, sizes: Sizes) -> list[dict[str, Any]]:
    """Return what clients get that ask one after the other, each for the first time."""
    blank = Question(server.client.url, await server.client.only_model(), [], sizes.max_tokens[0])
    system = _says("system", "strangers", sizes.system_words)
    got = []
    for name, ask in CLIENTS.items():
        messages: Messages = [system, _says("user", f"stranger {name}", sizes.turn_words)]
        before = await settled(blank.url)
        reply = await asyncio.to_thread(ask, replace(blank, messages=messages))
        got.append({"client": name, **_tokens([reply], (await settled(blank.url)).since(before))})
    return got
