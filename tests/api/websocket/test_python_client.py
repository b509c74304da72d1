"""The Python client on the real server: it sends only what is new, and comes back by itself."""

import asyncio
from contextlib import aclosing

import pytest

from clients.backoff import Backoff
from clients.conversation import Conversation
from clients.errors import APIError, BadRequestError, ConnectionLostError, UnreachableError
from clients.websocket import ChatSocket
from service.api.context import DOOR
from service.api.websocket.sessions import SESSIONS

QUICK = Backoff(first_s=0.001, longest_s=0.01, attempts=50)
LONG = {"max_tokens": 60, "seed": 7}


def sessions(live):
    return list(live.app[SESSIONS]._by_id.values())


def break_connections(live) -> None:
    """Break every connection."""
    for connection in live.app[SESSIONS]._connections:
        connection._transport.abort()


def restart(live) -> None:
    """Forget every session, as a restart does."""
    for session in sessions(live):
        live.app[SESSIONS].remove(session)
    break_connections(live)


async def say(conversation, text, **options) -> str:
    return "".join([piece async for piece in conversation.say(text, **options)])


@pytest.fixture(params=["json", "msgpack"])
async def encoding(request):
    return request.param


async def test_three_turns_send_only_what_is_new_and_reuse_it(live, encoding):
    async with ChatSocket(live.url, encoding=encoding) as socket:
        conversation = Conversation(socket, system="Be brief", max_tokens=8)
        for turn in range(3):
            await say(conversation, f"Question {turn}, long enough to be worth keeping in memory, please")
        (session,) = sessions(live)
        assert session.turns == 3
        assert session.history == conversation.messages[:-2]
    assert [turn.usage.cached_tokens > 0 for turn in conversation.turns] == [False, True, True]
    await live.until(lambda gauges: gauges["chat_sessions"] == gauges["kv_blocks_used"] == 0)


async def test_a_connection_that_breaks_in_mid_turn_changes_nothing(serve, stepped, encoding):
    live = await serve(stepped)
    async with ChatSocket(live.url, encoding=encoding, backoff=QUICK) as socket:
        conversation = Conversation(socket, **LONG)
        async with aclosing(conversation.say("Tell me a story")) as pieces:
            for break_after in (5, 10, 20):
                stepped.allow(break_after)
                await anext(pieces)
                break_connections(live)
            stepped.allow()
            async for _ in pieces:
                pass
        broken = conversation.messages[-1]
        assert (conversation.turns[0].outcome, conversation.turns[0].usage.completion_tokens) == ("length", 60)
    async with ChatSocket(live.url) as socket:
        undisturbed = Conversation(socket, **LONG)
        await say(undisturbed, "Tell me a story")
    assert broken == undisturbed.messages[-1]


async def test_a_connection_that_breaks_between_turns_is_not_noticed(live):
    async with ChatSocket(live.url, backoff=QUICK) as socket:
        conversation = Conversation(socket, max_tokens=8)
        await say(conversation, "Hello")
        break_connections(live)
        await say(conversation, "And?")
        assert conversation.turns[1].usage.cached_tokens > 0


async def test_a_server_that_lost_the_session_gets_the_history_again(live):
    async with ChatSocket(live.url, backoff=QUICK) as socket:
        conversation = Conversation(socket, max_tokens=8)
        await say(conversation, "Hello")
        restart(live)
        await say(conversation, "And?")
        (session,) = sessions(live)
        assert session.history == conversation.messages[:2]


async def test_an_answer_that_the_server_lost_in_part_is_an_error_and_the_chat_goes_on(serve, stepped):
    live = await serve(stepped)
    async with ChatSocket(live.url, backoff=QUICK) as socket:
        conversation = Conversation(socket, **LONG)
        async with aclosing(conversation.say("Tell me a story")) as pieces:
            stepped.allow(5)
            await anext(pieces)
            restart(live)
            stepped.allow()
            with pytest.raises(ConnectionLostError, match="lost the session"):
                async for _ in pieces:
                    pass
        await say(conversation, "Go on")
        (session,) = sessions(live)
        assert session.history == conversation.messages[:2]


async def test_an_answer_that_the_server_lost_before_it_began_is_asked_for_again(serve, stepped):
    live = await serve(stepped)
    async with ChatSocket(live.url, backoff=QUICK) as socket:
        conversation = Conversation(socket, **LONG)
        turn = asyncio.create_task(say(conversation, "Tell me a story"))
        await live.until(lambda _: [session.turns for session in sessions(live)] == [1])
        restart(live)
        stepped.allow()
        await turn
        assert conversation.turns[0].outcome == "length"


async def test_a_cancelled_turn_leaves_the_text_received_and_the_session_goes_on(serve, stepped):
    live = await serve(stepped)
    async with ChatSocket(live.url) as socket:
        conversation = Conversation(socket, max_tokens=500, seed=7)
        async with aclosing(conversation.say("Tell me a story")) as pieces:
            stepped.allow(10)
            await anext(pieces)
        stepped.allow()
        await say(conversation, "Go on", max_tokens=8)
        (session,) = sessions(live)
        assert session.history == conversation.messages[:2]
        assert conversation.turns[0].outcome == "cancelled"
        assert conversation.turns[1].usage.cached_tokens > 0


async def test_a_cancelled_turn_without_text_leaves_nothing(serve, stepped):
    live = await serve(stepped)
    async with ChatSocket(live.url) as socket:
        conversation = Conversation(socket, max_tokens=8)
        turn = asyncio.create_task(say(conversation, "Hello"))
        await live.until(lambda _: [session.turns for session in sessions(live)] == [1])
        turn.cancel()
        await asyncio.wait([turn])
        stepped.allow()
        await say(conversation, "Hello again")
        (session,) = sessions(live)
        assert (session.history, session.turns) == ([], 2)


async def test_another_history_begins_a_new_session(live):
    async with ChatSocket(live.url) as socket:
        conversation = Conversation(socket, system="Be brief", max_tokens=8)
        await say(conversation, "Hello")
        conversation.reset()
        await say(conversation, "Hello")
        await live.until(lambda gauges: gauges["chat_sessions"] == 1)
        assert sessions(live)[0].history == [{"role": "system", "content": "Be brief"}]


async def test_a_refused_turn_is_a_typed_error_and_the_conversation_goes_on(serve, stepped):
    live = await serve(stepped, model={"max_model_len": 60})
    async with ChatSocket(live.url, backoff=QUICK) as socket:
        conversation = Conversation(socket, max_tokens=8)
        for content, options in (("x" * 100, {}), ("Hello", {"temperature": -1})):
            with pytest.raises(BadRequestError) as refused:
                await say(conversation, content, **options)
            assert refused.value.details.request_id
        turn = asyncio.create_task(say(conversation, "Hello"))
        await live.until(lambda _: sessions(live)[0].turns == 2)
        break_connections(live)  # the turn is there, and is not asked for again
        await live.until(lambda gauges: gauges["chat_reconnects_total"] == 1)
        stepped.allow()
        await turn
        assert conversation.turns[-1].outcome == "length"


async def test_a_session_that_was_taken_over_is_not_fought_for(serve, connect, stepped):
    live = await serve(stepped)
    async with ChatSocket(live.url, backoff=QUICK) as socket:
        conversation = Conversation(socket, **LONG, user="ann")
        turn = asyncio.create_task(say(conversation, "Tell me a story"))
        await live.until(lambda _: [session.turns for session in sessions(live)] == [1])
        await connect(live, session=sessions(live)[0].id, user="ann")
        with pytest.raises(APIError) as ended:
            await turn
        assert ended.value.status == 409


async def test_a_missing_server_is_reported_at_once(closed_url):
    async with ChatSocket(closed_url) as socket:
        with pytest.raises(UnreachableError):
            await say(Conversation(socket), "Hello")


async def test_a_server_that_stays_away_ends_the_attempts(serve, stepped):
    live = await serve(stepped)
    backoff = Backoff(first_s=0.001, longest_s=0.001, attempts=3)
    async with ChatSocket(live.url, backoff=backoff) as socket:
        turn = asyncio.create_task(say(Conversation(socket, **LONG), "Hello"))
        await live.until(lambda _: [session.turns for session in sessions(live)] == [1])
        live.app[DOOR].closed = True
        break_connections(live)
        with pytest.raises(ConnectionLostError, match="503"):
            await turn


async def test_read_numbers_are_acknowledged(live):
    async with ChatSocket(live.url) as socket:
        await say(Conversation(socket, max_tokens=300, seed=7), "Tell me a story")
        await live.until(lambda _: (sessions(live)[0].reader.read or 0) >= 64)
