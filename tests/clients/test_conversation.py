"""A conversation over any transport: history, statistics, and what an incomplete turn leaves."""

import asyncio
from contextlib import aclosing
from itertools import count

import pytest

from clients.conversation import Conversation
from clients.errors import ConnectionLostError
from clients.protocol import Chunk, Usage


class ScriptedTransport:
    """Plays a list of chunks for each turn. It raises an exception in the list, and waits for an Event."""

    def __init__(self, *turns):
        self.turns = list(turns)
        self.asked = []
        self.closed = 0

    async def chat(self, messages, **options):
        """Play the next turn."""
        self.asked.append((messages, options))
        try:
            for step in self.turns.pop(0):
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.closed += 1


def spoken(*texts, usage=None, finish_reason="stop"):
    return [Chunk(), *[Chunk(text) for text in texts], Chunk(finish_reason=finish_reason), Chunk(usage=usage)]


def ticking():
    """A clock that moves a second each time it is read."""
    return count().__next__


async def answer(conversation, text, **options):
    return [piece async for piece in conversation.say(text, **options)]


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


async def test_next_turn_carries_the_history():
    transport = ScriptedTransport(spoken("Hi", "!"), spoken("Fine"))
    conversation = Conversation(transport, system="Be brief")
    assert await answer(conversation, "Hello") == ["Hi", "!"]
    await answer(conversation, "How are you?")
    history = [{"role": "system", "content": "Be brief"}, user("Hello"), assistant("Hi!"), user("How are you?")]
    assert transport.asked[1][0] == history
    assert conversation.messages == [*history, assistant("Fine")]


async def test_options_of_a_turn_override_those_of_the_conversation():
    transport = ScriptedTransport(spoken("Hi"))
    await answer(Conversation(transport, temperature=1.0, max_tokens=5), "Hello", temperature=0.0)
    options = transport.asked[0][1]
    assert (options["temperature"], options["max_tokens"]) == (0.0, 5)


async def test_each_conversation_has_a_user_of_its_own_for_all_its_turns():
    transport = ScriptedTransport(*[spoken("Hi")] * 3)
    first, second = Conversation(transport), Conversation(transport)
    for conversation in (first, first, second):
        await answer(conversation, "Hello")
    users = [options["user"] for _, options in transport.asked]
    assert users[0] == users[1] != users[2]


async def test_statistics_of_a_turn():
    usage = Usage(prompt_tokens=20, completion_tokens=3, cached_tokens=12)
    conversation = Conversation(ScriptedTransport(spoken("a", "b", "c", usage=usage)), clock=ticking())
    await answer(conversation, "Hello")
    (turn,) = conversation.turns
    assert (turn.outcome, turn.ttft_s, turn.decode_s, turn.total_s, turn.usage) == ("stop", 1, 2, 4, usage)
    assert turn.tokens_per_s == 1.0


async def test_rate_is_unknown_without_usage():
    conversation = Conversation(ScriptedTransport(spoken("a", "b")), clock=ticking())
    await answer(conversation, "Hello")
    assert conversation.turns[0].tokens_per_s is None


async def test_closed_turn_keeps_the_text_received_and_closes_the_transport():
    transport = ScriptedTransport([Chunk("a"), Chunk("b"), asyncio.Event()])
    conversation = Conversation(transport)
    async with aclosing(conversation.say("Hello")) as pieces:
        assert [await anext(pieces), await anext(pieces)] == ["a", "b"]
    assert conversation.messages == [user("Hello"), assistant("ab")]
    assert conversation.turns[0].outcome == "cancelled"
    assert transport.closed == 1


async def test_cancelled_turn_without_text_leaves_no_message():
    conversation = Conversation(ScriptedTransport([asyncio.Event()]))
    turn = asyncio.create_task(answer(conversation, "Hello"))
    await asyncio.sleep(0)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert conversation.messages == []
    assert (conversation.turns[0].outcome, conversation.turns[0].ttft_s) == ("cancelled", None)


async def test_failed_turn_keeps_its_text_and_the_next_one_goes_on():
    transport = ScriptedTransport([Chunk("a"), ConnectionLostError("gone")], spoken("b"))
    conversation = Conversation(transport)
    with pytest.raises(ConnectionLostError):
        await answer(conversation, "Hello")
    assert conversation.turns[0].outcome == "error"
    await answer(conversation, "Again")
    assert conversation.messages == [user("Hello"), assistant("a"), user("Again"), assistant("b")]


async def test_turn_closed_after_its_finish_reason_is_not_cancelled():
    conversation = Conversation(ScriptedTransport([Chunk("a", "length"), asyncio.Event()]))
    async with aclosing(conversation.say("Hello")) as pieces:
        await anext(pieces)
    assert conversation.turns[0].outcome == "length"


async def test_reset_keeps_only_the_system_message():
    conversation = Conversation(ScriptedTransport(spoken("Hi")), system="Be brief")
    await answer(conversation, "Hello")
    conversation.reset()
    assert conversation.messages == [{"role": "system", "content": "Be brief"}]
    assert conversation.turns == []


async def test_turn_and_reset_during_a_turn_are_refused():
    conversation = Conversation(ScriptedTransport([Chunk("a"), asyncio.Event()]))
    async with aclosing(conversation.say("Hello")) as pieces:
        await anext(pieces)
        with pytest.raises(RuntimeError):
            await answer(conversation, "Me too")
        with pytest.raises(RuntimeError):
            conversation.reset()
    assert conversation.messages == [user("Hello"), assistant("a")]
