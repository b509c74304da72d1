"""A trace at one server: what it computed of the prompts, when all chats together need more KV memory than there is."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from benchmarks.peers.client import Answer, ChatClient, RequestFailedError
from benchmarks.prefix.counters import Counts, settled
from benchmarks.prefix.trace import Conversation

LATE_S = 0.5  # behind when it was due


class CountsDifferError(Exception):
    """A server's counter of prompt tokens and its answers disagree, so that neither can be compared."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a trace. ``late_turns`` were sent late. ``cached_tokens`` is what answers say.

    Answers took ``answer_p50_s`` and ``answer_p99_s``.
    """

    turns: int
    failed: int
    late_turns: int
    prompt_tokens: int
    computed_tokens: int
    cached_tokens: int | None
    answer_p50_s: float
    answer_p99_s: float


@dataclass(frozen=True, slots=True)
class _Timed:
    """An answer, and how long after it was due its turn was sent."""

    late_s: float
    answer: Answer


async def play(client: ChatClient, conversations: Sequence[Conversation], in_flight: int) -> Played:
    """Send the turns in the order in which they are due, and not before. Raises `CountsDifferError`.

    No turn is sent before the one before it is answered, nor while ``in_flight`` others are not.
    """
    before = await settled(client.url)
    answers = [answer for answer in await _send(client, conversations, in_flight) if answer is not None]
    counted = (await settled(client.url)).since(before)
    played = _played(answers, sum(len(each.due_s) for each in conversations), counted)
    if not played.failed and counted.prompt != played.prompt_tokens:
        raise CountsDifferError(f"/metrics counts {counted.prompt} prompt tokens, answers {played.prompt_tokens}")
    return played


async def _send(client: ChatClient, conversations: Sequence[Conversation], in_flight: int) -> list[_Timed | None]:
    """Return each turn's answer; None if it failed."""
    clock = asyncio.get_running_loop().time
    began, places = clock(), asyncio.Semaphore(in_flight)
    sent: dict[tuple[int, int], asyncio.Task[_Timed | None]] = {}

    async def ask(number: int, turn: int, late_s: float) -> _Timed | None:
        conversation = conversations[number]
        try:
            return _Timed(late_s, await client.ask(conversation.prompt(turn), conversation.max_tokens))
        except (RequestFailedError, aiohttp.ClientError) as error:
            print(f"conversation {number}, turn {turn}: {error}", flush=True)
            return None
        finally:
            places.release()

    for due_s, number, turn in in_order(conversations):
        await asyncio.sleep(began + due_s - clock())
        if turn:
            await sent[number, turn - 1]
        await places.acquire()
        sent[number, turn] = asyncio.create_task(ask(number, turn, clock() - began - due_s))
    return await asyncio.gather(*sent.values())


def in_order(conversations: Sequence[Conversation]) -> list[tuple[float, int, int]]:
    """Return when each turn is due, its conversation's number, and its own, as they are sent."""
    return sorted((due_s, n, turn) for n, each in enumerate(conversations) for turn, due_s in enumerate(each.due_s))


def _played(answers: Sequence[_Timed], turns: int, counted: Counts) -> Played:
    made = [each.answer for each in answers]
    cached = [answer.cached_tokens for answer in made]
    p50, p99 = np.percentile([answer.end - answer.sent for answer in made] or [0.0], [50, 99]).tolist()
    return Played(
        turns=len(made),
        failed=turns - len(made),
        late_turns=sum(each.late_s > LATE_S for each in answers),
        prompt_tokens=sum(answer.prompt_tokens for answer in made),
        computed_tokens=counted.computed,
        cached_tokens=None if None in cached else sum(each or 0 for each in cached),
        answer_p50_s=p50,
        answer_p99_s=p99,
    )
