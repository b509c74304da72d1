"""A trace at one server: what it computed of the prompts, when all chats together need more KV memory than there is."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import numpy as np

from benchmarks.peers.client import Answer, ChatClient, RequestFailedError
from benchmarks.prefix.counters import Counts, settled
from benchmarks.prefix.trace import Conversation

LATE_S = 0.5  # a turn that is sent later than due by more may change the order of arrival


class CountsDifferError(Exception):
    """A server's counter of prompt tokens and its answers disagree, so that neither can be compared."""


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a trace. ``late_turns`` had to wait for the answer before. ``cached_tokens`` is what answers say.

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


async def play(client: ChatClient, conversations: Sequence[Conversation]) -> Played:
    """Send the turns when they are due. Raises `CountsDifferError`."""
    before = await settled(client.url)
    began = asyncio.get_running_loop().time()
    made = await asyncio.gather(*(_converse(client, each, began) for each in conversations))
    counted = (await settled(client.url)).since(before)
    answers = [answer for each in made for answer in each]
    played = _played(conversations, answers, counted, began)
    if not played.failed and counted.prompt != played.prompt_tokens:
        raise CountsDifferError(f"/metrics counts {counted.prompt} prompt tokens, answers {played.prompt_tokens}")
    return played


async def _converse(client: ChatClient, conversation: Conversation, began: float) -> list[tuple[float, Answer]]:
    """Return each answer and when it was due; the first that fails ends the conversation."""
    answers = []
    for turn, due_s in enumerate(conversation.due_s):
        await asyncio.sleep(began + due_s - asyncio.get_running_loop().time())
        try:
            answers.append((due_s, await client.ask(conversation.prompt(turn), conversation.max_tokens)))
        except (RequestFailedError, aiohttp.ClientError) as error:
            print(f"turn {turn}: {error}", flush=True)
            break
    return answers


def _played(
    conversations: Sequence[Conversation], answers: Sequence[tuple[float, Answer]], counted: Counts, began: float
) -> Played:
    cached = [answer.cached_tokens for _, answer in answers]
    p50, p99 = np.percentile([answer.end - answer.sent for _, answer in answers] or [0.0], [50, 99]).tolist()
    return Played(
        turns=len(answers),
        failed=sum(len(each.due_s) for each in conversations) - len(answers),
        late_turns=sum(answer.sent - began - due_s > LATE_S for due_s, answer in answers),
        prompt_tokens=sum(answer.prompt_tokens for _, answer in answers),
        computed_tokens=counted.computed,
        cached_tokens=None if None in cached else sum(each or 0 for each in cached),
        answer_p50_s=p50,
        answer_p99_s=p99,
    )
