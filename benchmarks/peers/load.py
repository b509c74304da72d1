"""What each server is asked, the same in every round: closed loops of streams, long prompts, and an open loop.

No two prompts begin alike: each has its own system message, so that a prefix cache finds nothing but the earlier turns
of a conversation.
"""

import asyncio
import random
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from typing import Any

import aiohttp
import numpy as np

from benchmarks.peers.client import Answer, ChatClient, RequestFailedError

# Each is one token of the bundled model, after a blank and at the beginning of a message.
WORDS = """
above answer best blood boat body book break care color down east engine enter face field fill food hand heart heavy
here inch just lift live lost made master matter meat modern must noise page past piece please pound quick rich rule
shape shop side sing skill some sound south station study sugar take there thing think time total turn voice wall week
when which wild wing winter with word world would
""".split()  # noqa: SIM905 - as a list it is six times as long
SYSTEM_WORDS = 8
TEMPLATE_TOKENS = 14  # what the bundled model's template adds to a system and a user message

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Load:
    """The sizes of everything. ``answers``: how many each stream takes one after the other, by number of streams."""

    prompt_tokens: int = 198
    max_tokens: int = 128
    answers: Mapping[int, int] = field(default_factory=lambda: {1: 4, 4: 2, 16: 2})
    long_prompt_tokens: int = 1000
    long_prompts: int = 3
    conversations_per_s: float = 0.7
    seconds: float = 60.0  # in which conversations begin; all of them end
    turns: int = 3
    turn_words: int = 64
    turn_max_tokens: tuple[int, int] = (64, 128)  # evenly between
    think_s: float = 4.0


def prompt(key: str, tokens: int) -> list[dict[str, str]]:
    """Return messages of so many tokens of the bundled model; ``key`` decides which words they are of."""
    chosen = words(key, tokens - TEMPLATE_TOKENS)
    return [
        {"role": "system", "content": " ".join(chosen[:SYSTEM_WORDS])},
        {"role": "user", "content": " ".join(chosen[SYSTEM_WORDS:])},
    ]


def words(key: str, count: int) -> list[str]:
    """Return so many tokens of text, the same for the same key."""
    return random.Random(key).choices(WORDS, k=count)


async def warm_up(client: ChatClient, load: Load) -> None:
    """Let a server do what it does for its first requests only."""
    streams = max(load.answers)
    await asyncio.gather(
        *(client.ask(prompt(f"warm {n}", load.prompt_tokens), 16, f"warm {n}") for n in range(streams))
    )


async def decode(client: ChatClient, load: Load) -> Figures:
    """Return output tokens a second, prefill included, by number of streams, and one stream's speed of its own.

    ``prompt_tokens`` is the mean of what the server counted.
    """
    figures: Figures = {}
    counts: list[int] = []
    for streams, answers in load.answers.items():
        took, made = await _timed(_closed_loop(client, load, streams, answers))
        figures[f"decode_{streams}"] = sum(each.completion_tokens for each in made) / took
        if streams == 1:
            figures["decode_1_own_speed"] = statistics.median(each.own_speed for each in made)
        counts += [each.prompt_tokens for each in made]
    return {**figures, "prompt_tokens": statistics.mean(counts)}


async def _closed_loop(client: ChatClient, load: Load, streams: int, answers: int) -> list[Answer]:
    async def stream(number: int) -> list[Answer]:
        keys = [f"{streams} streams, {number}, {turn}" for turn in range(answers)]
        return [await client.ask(prompt(key, load.prompt_tokens), load.max_tokens, key) for key in keys]

    return [answer for made in await asyncio.gather(*map(stream, range(streams))) for answer in made]


async def prefill(client: ChatClient, load: Load) -> Figures:
    """Return prompt tokens a second of long prompts, one after the other, with one token out."""
    rates = []
    for number in range(load.long_prompts):
        key = f"long {number}"
        took, answer = await _timed(client.ask(prompt(key, load.long_prompt_tokens), 1, key))
        rates.append(answer.prompt_tokens / took)
    return {"prefill": statistics.median(rates)}


async def open_loop(client: ChatClient, load: Load) -> Figures:
    """Return latencies of conversations that begin as they come, in ms, and output tokens a second until all ended.

    ``failed`` counts conversations that a refusal or a broken answer ended; ``cached_share`` is of all prompt tokens,
    where the server says which it had.
    """
    took, conversations = await _timed(
        asyncio.gather(*(_conversation(client, load, number, at) for number, at in enumerate(arrivals(load))))
    )
    made = [answer for answers in conversations for answer in answers]
    figures = {
        "tokens_per_s": sum(each.completion_tokens for each in made) / took,
        "failed": float(sum(len(answers) < load.turns for answers in conversations)),
        **_latencies(made),
    }
    known = [each for each in made if each.cached_tokens is not None]
    if known:
        cached = sum(each.cached_tokens or 0 for each in known)
        figures["cached_share"] = cached / sum(each.prompt_tokens for each in known)
    return figures


def arrivals(load: Load) -> list[float]:
    """Return when conversations begin, in seconds: Poisson, the same each time."""
    rng = random.Random("arrivals")
    gaps = iter(lambda: rng.expovariate(load.conversations_per_s), None)
    return list(takewhile(lambda at: at < load.seconds, accumulate(gaps)))


async def _conversation(client: ChatClient, load: Load, number: int, at: float) -> list[Answer]:
    """Return the answers that came; the first that fails ends the conversation."""
    await asyncio.sleep(at)
    rng = random.Random(f"conversation {number}")
    messages = prompt(f"conversation {number}", TEMPLATE_TOKENS + SYSTEM_WORDS + load.turn_words)
    answers: list[Answer] = []
    for turn in range(load.turns):
        if turn:
            await asyncio.sleep(load.think_s)
            text = " ".join(words(f"conversation {number}, {turn}", load.turn_words))
            messages += [{"role": "assistant", "content": answers[-1].text}, {"role": "user", "content": text}]
        try:
            answers.append(await client.ask(messages, rng.randint(*load.turn_max_tokens), f"user {number}"))
        except (RequestFailedError, aiohttp.ClientError) as error:
            print(f"conversation {number}, turn {turn}: {error}")
            break
    return answers


def _latencies(answers: Sequence[Answer]) -> Figures:
    samples = {"ttft": [each.ttft for each in answers], "tbt": [gap for each in answers for gap in each.gaps]}
    return {
        f"{name}_p{percent}": 1e3 * float(np.percentile(values, percent))
        for name, values in samples.items()
        if values
        for percent in (50, 99)
    }


async def _timed(work: Awaitable[Any]) -> tuple[float, Any]:
    """Return the seconds that it took, and its result."""
    clock = asyncio.get_running_loop().time
    began = clock()
    result = await work
    return clock() - began, result


MEASURES: dict[str, Callable[[ChatClient, Load], Awaitable[Figures]]] = {
    "decode": decode,
    "prefill": prefill,
    "open": open_loop,
}
