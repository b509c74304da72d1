"""More conversations than KV memory: all are served, none gets another's text, nothing is left behind.

The simulated data plane draws every token from a hash of the whole sequence before it, and the engine checks all
invariants after each step. So a conversation answers as it does alone only if every block it reads is its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clients.client import Client
from clients.conversation import Conversation

CONVERSATIONS, TURNS, ANSWER = 64, 3, 24
BLOCKS_FOR_EIGHT = 8 * 19  # a conversation ends at about 300 tokens: 19 blocks

Serve = Callable[..., Awaitable[Any]]


async def talk(url: str, number: int) -> list[str]:
    """All answers of one conversation."""
    answers = []
    async with Client(url) as client:
        conversation = Conversation(client, max_tokens=ANSWER, seed=number, temperature=1.0)
        for turn in range(TURNS):
            parts = [part async for part in conversation.say(f"I am number {number}, this is turn {turn}. Who am I?")]
            answers.append("".join(parts))
    return answers


@pytest.fixture
async def undisturbed(serve: Serve) -> list[list[str]]:
    live = await serve()
    return [await talk(live.url, number) for number in range(CONVERSATIONS)]


async def test_64_conversations_on_memory_for_8(serve: Serve, undisturbed: list[list[str]]) -> None:
    live = await serve(core={"device_blocks": BLOCKS_FOR_EIGHT, "max_num_seqs": 64})
    answers = await asyncio.gather(*(talk(live.url, number) for number in range(CONVERSATIONS)))
    assert answers == undisturbed
    assert len({tuple(each) for each in answers}) == CONVERSATIONS
    gauges = await live.gauges()
    assert gauges["num_requests_running"] == gauges["num_requests_waiting"] == gauges["num_requests_preempted"] == 0


async def test_memory_returns_to_the_start_when_the_sessions_expire(serve: Serve) -> None:
    live = await serve(core={"device_blocks": BLOCKS_FOR_EIGHT, "max_num_seqs": 64, "session_ttl_s": 0.2})
    await asyncio.gather(*(talk(live.url, number) for number in range(CONVERSATIONS)))
    gauges = await live.until(lambda gauges: gauges["idle_sessions"] == 0)
    assert gauges["kv_blocks_used"] == gauges["kv_blocks_reserved"] == 0
