"""Conversations over one WebSocket connection: turns, their usage, and what ends them."""

import pytest

from service.execution.models.chat_template import ChatTemplate

JSON, MSGPACK = "fastswitch.v1.json", "fastswitch.v1.msgpack"


async def plain_answer(live, messages, **fields) -> str:
    body = {"messages": messages, "max_tokens": 8, "seed": 1, **fields}
    response = await live.http.post("/v1/chat/completions", json=body)
    return (await response.json())["choices"][0]["message"]["content"]


@pytest.mark.parametrize("protocol", [JSON, MSGPACK])
async def test_three_turns_stream_and_each_computes_only_what_is_new(live, connect, protocol):
    peer = await connect(live, protocol)
    assert peer.socket.protocol == protocol
    history = []
    for turn in range(3):
        question = f"Question {turn}, which is long enough to be worth keeping in memory, please answer"
        end = await peer.turn(question)
        history.append({"role": "user", "content": question})
        assert peer.text == await plain_answer(live, history)
        history.append({"role": "assistant", "content": peer.text})
        assert end["finish_reason"] == "length"
        assert end["usage"]["completion_tokens"] == 8
        assert (end["usage"]["reused_tokens"] > 0) == (turn > 0)


async def test_numbers_grow_through_the_session_and_count_tokens_and_ends(live, connect):
    peer = await connect(live)
    assert (await peer.turn(max_tokens=5))["number"] == 6
    assert (await peer.turn(max_tokens=3))["number"] == 10


async def test_the_end_reports_where_the_time_went(live, connect):
    peer = await connect(live)
    timings = (await peer.turn(max_tokens=5))["timings"]
    assert 0 <= timings["queue_s"] <= timings["ttft_s"] <= timings["e2e_s"]
    assert timings["tbt_s"] > 0 == timings["stall_s"]


async def test_several_messages_may_begin_a_conversation(live, connect):
    messages = [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]
    peer = await connect(live)
    await peer.send("turn", messages=messages, max_tokens=8, seed=1)
    await peer.until("done")
    assert peer.text == await plain_answer(live, messages)


async def test_a_session_may_begin_with_a_history(live, connect):
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    peer = await connect(live, messages=history)
    await peer.turn("And?")
    assert peer.text == await plain_answer(live, [*history, {"role": "user", "content": "And?"}])


@pytest.mark.parametrize("protocol", [JSON, MSGPACK])
async def test_the_template_reads_a_turns_variables(serve, connect, protocol):
    live = await serve(model={"chat_template": ChatTemplate("{{ 'x' * words }}")})
    peer = await connect(live, protocol)
    counts = [(await peer.turn(chat_template_kwargs={"words": words}))["usage"]["prompt_tokens"] for words in (20, 40)]
    assert counts[0] < counts[1]


async def test_sampling_fields_are_those_of_the_openai_route(live, connect):
    peer = await connect(live)
    whole = await plain_answer(live, [{"role": "user", "content": "Hi"}], max_tokens=40)
    stop = whole[len(whole) // 2 :][:3]
    end = await peer.turn("Hi", max_completion_tokens=40, stop=[stop])
    assert (end["finish_reason"], peer.text) == ("stop", whole[: whole.index(stop)])


async def test_text_held_back_to_the_end_comes_before_it(live, connect):
    whole = await plain_answer(live, [{"role": "user", "content": "Hi"}], max_tokens=40)
    peer = await connect(live)
    end = await peer.turn("Hi", max_tokens=40, stop=[whole[-3:] + "!"])
    assert (end["finish_reason"], peer.text) == ("length", whole)
    assert end["number"] == 42  # 40 tokens, the rest of the text, the end


async def test_a_turn_reports_its_preemption_and_its_resumption(serve, connect):
    live = await serve(core={"max_num_seqs": 1}, policy="priority")
    low, high = await connect(live), await connect(live)
    await low.send("turn", content="Hi", max_tokens=50_000, priority=5)
    await low.until("token")
    await high.send("turn", content="Hi", max_tokens=50_000, priority=0)
    assert (await low.until("preempted"))["reason"] == "slot"
    await high.send("cancel")
    resumed = await low.until("resumed")
    await low.send("cancel")
    end = await low.until("done")
    assert end["usage"]["preemptions"] == 1
    assert end["timings"]["stall_s"] == resumed["stalled_s"] > 0


async def test_a_turn_during_a_turn_is_refused_and_the_first_goes_on(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=4, seed=1)
    await peer.send("turn", content="Me too", max_tokens=4)
    error = await peer.receive()
    assert (error["type"], error["code"], error["status"], error["number"]) == ("error", "session_busy", 409, None)
    stepped.allow()
    assert (await peer.until("done"))["usage"]["completion_tokens"] == 4
    assert (await peer.turn("Me too"))["finish_reason"] == "length"


async def test_after_a_cancel_the_history_ends_at_what_was_read(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50, seed=1)
    stepped.allow(4)
    await peer.reads(4)
    text = peer.text
    stepped.allow(3)
    await peer.reads(7)
    await peer.send("cancel", last=4)
    end = await peer.until("done")
    assert (end["finish_reason"], end["usage"]["completion_tokens"] >= 7) == ("cancelled", True)
    stepped.allow()
    history = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
    await peer.turn("Go on")
    assert peer.text == await plain_answer(live, [*history, {"role": "user", "content": "Go on"}])


async def test_a_cancel_frees_the_batch_and_nothing_more_is_sent(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(2)
    await peer.reads(2)
    await peer.send("cancel")
    assert (await peer.receive())["type"] == "done"
    stepped.allow()
    await live.until(lambda gauges: gauges["num_requests_running"] == 0)


async def test_a_cancel_before_the_first_token_leaves_no_trace_in_the_history(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50)
    await peer.send("cancel")
    assert (await peer.until("done"))["finish_reason"] == "cancelled"
    stepped.allow()
    await peer.turn("Hello")
    assert peer.text == await plain_answer(live, [{"role": "user", "content": "Hello"}])


async def test_a_cancel_that_crosses_the_end_still_truncates_the_history(live, connect):
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=8, seed=1)
    await peer.until("done")
    await peer.send("cancel", last=0)
    await peer.turn("Hello")
    assert peer.text == await plain_answer(live, [{"role": "user", "content": "Hello"}])


async def test_close_ends_the_session_and_frees_its_blocks(live, connect):
    peer = await connect(live)
    await peer.turn()
    assert (await live.gauges())["kv_blocks_used"] > 0
    await peer.send("close")
    assert await peer.closed() == 1000
    gauges = await live.until(lambda gauges: gauges["kv_blocks_used"] == 0)
    assert gauges["chat_sessions"] == gauges["idle_sessions"] == 0
    back = await connect(live, opened=False)
    assert (await back.open(session=peer.session))["code"] == "session_lost"


async def test_close_during_a_turn_cancels_it(serve, connect, stepped):
    live = await serve(stepped)
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=50_000)
    stepped.allow(2)
    await peer.reads(2)
    await peer.send("close")
    assert await peer.closed() == 1000
    stepped.allow()
    gauges = await live.until(lambda gauges: gauges["num_requests_running"] == 0)
    assert gauges["kv_blocks_used"] == 0


async def test_a_stateless_history_shares_the_blocks_of_a_websocket_session_and_leaves_it_its_own(live, connect):
    peer = await connect(live, user="ann")
    question = "Tell me something that is long enough to be worth keeping, please."
    await peer.turn(question)
    history = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": peer.text},
        {"role": "user", "content": "Go on"},
    ]
    body = {"messages": history, "max_tokens": 4, "user": "ann"}
    answer = await (await live.http.post("/v1/chat/completions", json=body)).json()
    shared = answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert shared > 0 == shared % 16
    assert (await peer.turn("Go on"))["usage"]["reused_tokens"] > shared


async def test_without_sharing_a_conversation_still_reuses_its_own_history(serve, connect):
    live = await serve(limits={"prefix_sharing": "off"})
    ends = []
    for peer in (await connect(live), await connect(live)):
        ends += [await peer.turn("Tell me something long."), await peer.turn("Go on")]
    reused = [end["usage"]["reused_tokens"] for end in ends]
    assert reused[0] == reused[2] == 0
    assert min(reused[1], reused[3]) >= ends[0]["usage"]["prompt_tokens"]


async def test_a_conversations_salt_is_that_of_its_opening(live, connect):
    salts = (None, "s", "s", "t")
    peers = [await connect(live, **({} if salt is None else {"cache_salt": salt})) for salt in salts]
    question = "Tell me something that is long enough to be worth keeping, please."
    first = [(await peer.turn(question))["usage"]["reused_tokens"] > 0 for peer in peers]
    assert first == [False, False, True, False]
    assert (await peers[1].turn("Go on"))["usage"]["reused_tokens"] > 0
    peers[1].kill()
    back = await connect(live, session=peers[1].session, last=peers[1].last)
    assert (await back.turn("And?"))["usage"]["reused_tokens"] > 0


async def test_metrics_count_connections_sessions_and_no_user(live, connect):
    peer = await connect(live, user="a-secret-user")
    await peer.turn("a-secret-question")
    text = await (await live.http.get("/metrics")).text()
    assert "fastswitch_websocket_connections 1.0" in text
    assert "fastswitch_chat_sessions 1.0" in text
    assert "secret" not in text
    assert peer.session not in text
    peer.kill()
    gauges = await live.until(lambda gauges: gauges["websocket_connections"] == 0)
    assert gauges["chat_sessions"] == 1
