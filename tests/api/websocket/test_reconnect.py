"""Connections break, conversations go on: nothing is missed, nothing comes twice, no other client gets in."""

import pytest

from service.api.websocket.sessions import SESSIONS

JSON, MSGPACK = "fastswitch.v1.json", "fastswitch.v1.msgpack"
LONG = {"content": "Tell me a story", "max_tokens": 60, "seed": 7}


async def undisturbed(live, connect) -> str:
    peer = await connect(live)
    await peer.turn(**LONG)
    return peer.text


async def left(live, session: str) -> None:
    """Wait until the session has no reader."""
    chat = live.app[SESSIONS]._by_id[session]
    await live.until(lambda _: chat.reader is None)


@pytest.mark.parametrize("protocol", [JSON, MSGPACK])
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "taken over"])
async def test_a_client_that_comes_back_gets_exactly_the_missing_tokens(serve, connect, stepped, protocol, kill):
    live = await serve(stepped)
    first = await connect(live, protocol)
    await first.send("turn", **LONG)
    stepped.allow(20)
    await first.reads(20)
    if kill:
        first.kill()
        await left(live, first.session)
    stepped.allow(20)
    second = await connect(live, protocol, session=first.session, last=first.last)
    stepped.allow()
    end = await second.until("done")
    assert end["usage"]["completion_tokens"] == 60
    assert first.text + second.text == await undisturbed(live, connect)


async def test_what_had_arrived_late_is_sent_again_from_where_the_client_says(serve, connect, stepped):
    live = await serve(stepped)
    first = await connect(live)
    await first.send("turn", **LONG)
    stepped.allow(10)
    await first.reads(10)
    seen, last = first.text, first.last
    stepped.allow(10)
    await first.reads(20)
    second = await connect(live, session=first.session, last=last)
    stepped.allow()
    await second.until("done")
    assert seen + second.text == await undisturbed(live, connect)


async def test_an_end_that_was_missed_is_sent_again_and_one_that_was_not_is_not(live, connect):
    first = await connect(live)
    end = await first.turn(**LONG)
    first.kill()
    again = await connect(live, session=first.session, last=end["number"] - 1)
    assert await again.receive() == end
    complete = await connect(live, session=first.session, last=end["number"])
    await complete.turn("And?")  # no second end comes before this one's
    assert complete.text


async def test_opened_says_whether_the_last_turn_arrived(serve, connect, stepped):
    live = await serve(stepped)
    first = await connect(live)
    await first.send("turn", **LONG)
    stepped.allow(1)
    await first.reads(1)
    second = await connect(live, opened=False)
    opened = await second.open(session=first.session)
    assert (opened["turns"], opened["running"], opened["session"]) == (1, True, first.session)


async def test_a_second_connection_takes_the_session_over(live, connect):
    first = await connect(live)
    second = await connect(live, session=first.session)
    assert await first.closed() == 4409
    assert (await second.turn())["finish_reason"] == "length"
    assert (await live.gauges())["chat_reconnects_total"] == 1


async def test_a_preempted_turn_is_reported_again_after_a_reconnect(serve, connect):
    live = await serve(core={"max_num_seqs": 1}, policy="priority")
    low, high = await connect(live), await connect(live)
    await low.send("turn", content="Hi", max_tokens=50_000, priority=5)
    await low.until("token")
    await high.send("turn", content="Hi", max_tokens=50_000, priority=0)
    await low.until("preempted")
    back = await connect(live, session=low.session, last=low.last)
    assert (await back.until("preempted"))["reason"] == "slot"


async def test_after_the_grace_the_turn_is_cancelled_and_its_text_kept(serve, connect, stepped):
    live = await serve(stepped, limits={"reconnect_grace_s": 0.01})
    first = await connect(live)
    await first.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(5)
    await first.reads(5)
    chat = live.app[SESSIONS]._by_id[first.session]
    first.kill()
    await live.until(lambda _: chat.end is not None)
    second = await connect(live, session=first.session, last=0)
    end = await second.until("done")
    assert (end["finish_reason"], second.text) == ("cancelled", first.text)
    await second.send("close")
    gauges = await live.until(lambda gauges: gauges["chat_sessions"] == 0)
    stepped.allow()
    gauges = await live.until(lambda gauges: gauges["num_requests_running"] == 0)
    assert gauges["kv_blocks_used"] == 0


async def test_within_the_grace_the_turn_ends_by_itself(live, connect):
    first = await connect(live)
    await first.send("turn", **LONG)
    first.kill()
    await live.until(lambda gauges: gauges["idle_sessions"] == 1)
    second = await connect(live, session=first.session, last=0)
    end = await second.until("done")
    assert (end["finish_reason"], end["usage"]["completion_tokens"]) == ("length", 60)


async def test_coming_back_ends_the_grace(serve, connect, stepped):
    live = await serve(stepped, limits={"reconnect_grace_s": 1.0})
    first, later = await connect(live), await connect(live)
    for peer in (first, later):
        await peer.send("turn", **LONG)
    stepped.allow(3)
    await first.reads(1)
    first.kill()
    await left(live, first.session)
    back = await connect(live, session=first.session, last=first.last)
    chat = live.app[SESSIONS]._by_id[later.session]
    later.kill()
    await live.until(lambda _: chat.end is not None)  # a grace that began later is over
    stepped.allow()
    assert (await back.until("done"))["finish_reason"] == "length"


async def test_without_a_client_an_answer_is_bounded(serve, connect):
    live = await serve(limits={"reconnect_buffer": 100})
    first = await connect(live)
    await first.send("turn", content="Hi", max_tokens=50_000)
    await first.until("token")
    chat = live.app[SESSIONS]._by_id[first.session]
    first.kill()
    await live.until(lambda gauges: chat.end is not None)
    assert chat.ahead <= 102  # the one too many, and the end
    second = await connect(live, session=first.session, last=first.last)
    while (frame := await second.receive())["type"] != "error":
        assert frame["type"] == "token"
    assert frame["code"] == "slow_reader"


async def test_a_session_without_a_reader_for_its_time_to_live_is_lost(serve, connect):
    live = await serve(limits={"session_ttl_s": 0.01})
    first = await connect(live)
    await first.turn()
    first.kill()
    await live.until(lambda gauges: gauges["chat_sessions"] == gauges["kv_blocks_used"] == 0)
    second = await connect(live, opened=False)
    error = await second.open(session=first.session)
    assert (error["code"], error["status"], error["param"]) == ("session_lost", 404, "session")
    assert (await second.open())["type"] == "opened"  # on the same connection


async def test_a_session_that_is_read_does_not_expire(serve, connect):
    live = await serve(limits={"session_ttl_s": 0.01})
    first = await connect(live)
    other = await connect(live)
    other.kill()
    await live.until(lambda gauges: gauges["chat_sessions"] == 1)  # the other's time is up
    assert (await first.turn())["finish_reason"] == "length"


@pytest.mark.parametrize("user", [None, "bob", ""])
async def test_another_users_session_is_as_good_as_none(live, connect, user):
    ann = await connect(live, user="ann")
    await ann.turn()
    bob = await connect(live, opened=False)
    fields = {} if user is None else {"user": user}
    assert (await bob.open(session=ann.session, **fields))["code"] == "session_lost"
    assert (await ann.turn("Still here?"))["type"] == "done"


async def test_a_number_that_was_never_sent_is_refused(live, connect):
    first = await connect(live)
    second = await connect(live, opened=False)
    error = await second.open(session=first.session, last=5)
    assert (error["code"], error["param"]) == ("invalid_request_error", "last")


async def test_session_names_are_random_and_long(live, connect):
    names = {(await connect(live)).session for _ in range(3)}
    assert len(names) == 3
    assert all(len(name) == 22 for name in names)  # 128 bits in base64
