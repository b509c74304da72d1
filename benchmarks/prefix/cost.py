"""What sharing costs the engine's thread: finding a prefix among many, and the decisions of a step."""

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from random import Random
from typing import Any

from allocator import BLOCK_TOKENS
from benchmarks.core import costs_ms
from service.core.messages.commands import Submit
from service.core.messages.packing import pack
from service.core.messages.sampling import SamplingParams
from service.core.state.sessions import SessionTable

SCOPE = ("tenant",)
VOCABULARY = 50_000
Prompt = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of both measures. ``depth``: prefixes that stand on one another in a prompt's way at worst."""

    prompt_tokens: int = 2_000
    system_tokens: int = 1_000
    prefixes: int = 10_000
    depth: int = 120
    searches: int = 2_000
    waiting: int = 1_000
    blocks: int = 16_384
    rounds: int = 3


def measure(sizes: Sizes) -> dict[str, Any]:
    """Return microseconds of a search, and milliseconds of plan and commit, medians."""
    return {"sizes": asdict(sizes), **_searches(sizes), **_steps(sizes)}


def _searches(sizes: Sizes) -> dict[str, float]:
    """Return what finding takes by where the prompt agrees, and packing it, which is done beside tokenising."""
    rng = Random("prefixes")
    table, wide, deep = cached(sizes, rng)
    other = _tokens(rng, sizes.prompt_tokens)
    unknown = pack(other)
    return {
        "find_us_wide": _median_us(sizes, lambda: table.find(SCOPE, wide)),
        "find_us_deep": _median_us(sizes, lambda: table.find(SCOPE, deep)),
        "find_us_nothing": _median_us(sizes, lambda: table.find(SCOPE, unknown)),
        "pack_us": _median_us(sizes, lambda: pack(other)),
    }


def cached(sizes: Sizes, rng: Random) -> tuple[SessionTable, bytes, bytes]:
    """Return a table with so many prefixes, and two packed prompts.

    The first agrees with a system prompt and one of very many chats on it. The second agrees with ``depth`` prefixes.
    """
    table = SessionTable(ttl_s=1e9, max_idle=sizes.prefixes)
    deep = _tokens(rng, sizes.prompt_tokens)
    for depth in range(1, sizes.depth + 1):
        _insert(table, deep[: depth * BLOCK_TOKENS] + _tokens(rng, BLOCK_TOKENS))
    _insert(table, deep)
    system = _tokens(rng, sizes.system_tokens // BLOCK_TOKENS * BLOCK_TOKENS)
    chat: Prompt = ()
    while table.num_prefixes < sizes.prefixes:
        chat = system + _tokens(rng, sizes.prompt_tokens - len(system))
        for end in (chat[-BLOCK_TOKENS:], _tokens(rng, BLOCK_TOKENS)):  # two branches
            _insert(table, chat[:-BLOCK_TOKENS] + end)
    return table, pack(chat), pack(deep)


def _insert(table: SessionTable, prompt: Prompt) -> None:
    packed = pack(prompt)
    found = table.find(SCOPE, packed)
    prefix = found.prefix
    if found.cut is not None:
        assert found.child is not None
        prefix = table.split(found.child, found.cut)
    table.begin_turn(table.open(SCOPE, prefix=prefix), prompt, packed)


def _tokens(rng: Random, number: int) -> Prompt:
    return tuple(rng.choices(range(VOCABULARY), k=number))


def _median_us(sizes: Sizes, call: Any) -> float:
    took = []
    for _ in range(sizes.searches):
        began = time.perf_counter()
        call()
        took.append(1e6 * (time.perf_counter() - began))
    return statistics.median(took)


def _steps(sizes: Sizes) -> dict[str, float]:
    """Return the costs without a scope, with one in which no prompts agree, and with one in which all do."""
    took: dict[str, list[float]] = {}
    for _ in range(sizes.rounds):  # alternating, so that a machine that gets busier favours none
        for kind in ("alone", "apart", "shared"):
            submits, steps, _ = costs_ms("vtc", sizes.waiting, sizes.blocks, requests(kind))
            took.setdefault(f"submit_ms_{kind}", []).extend(submits)
            took.setdefault(f"step_ms_{kind}", []).extend(steps)
    return {name: statistics.median(costs) for name, costs in took.items()}


def requests(kind: str) -> Iterator[Submit]:
    """Yield requests of the same lengths: without a scope, or with one, and then with prompts that agree or do not."""
    for number in count():
        common = 64 if kind == "shared" else 0
        own = range(1_000 + 128 * number, 1_000 + 128 * number + 64 + number % 50 - common + 32)
        prompt = (*range(common), *own)
        named = {"tenant": f"tenant {number % 50}", "user": f"user {number % 700}"}
        scope = None if kind == "alone" else SCOPE
        yield Submit(f"r{number}", prompt, 200 + number % 200, SamplingParams(), frozenset(), scope, **named)
