"""Any input over a WebSocket gets an error frame or a close code, and the server goes on."""

import aiohttp
import msgpack
import pytest

JSON, MSGPACK = "fastswitch.v1.json", "fastswitch.v1.msgpack"
ROUTE = "/v1/chat/stream"

JSON_FRAMES = {
    "nothing": ("", None),
    "not json": ("{", None),
    "a list": ("[]", None),
    "null": ("null", None),
    "a number": ("3", None),
    "nested too deeply": ("[" * 100_000, None),
    "a lone surrogate": (r'{"type":"turn","content":"\ud800"}', None),
    "nan": ('{"type":"turn","content":"x","temperature":NaN}', None),
    "no type": ("{}", None),
    "unknown type": ('{"type":"sing"}', None),
    "type as number": ('{"type":3}', None),
    "a server's frame": ('{"type":"token","text":"x","number":1}', None),
    "content as number": ('{"type":"turn","content":3}', "content"),
    "no content": ('{"type":"turn"}', None),
    "content and messages": ('{"type":"turn","content":"x","messages":[{"role":"user","content":"x"}]}', None),
    "no messages": ('{"type":"turn","messages":[]}', "messages"),
    "unknown role": ('{"type":"turn","messages":[{"role":"oracle","content":"x"}]}', "messages.0.role"),
    "temperature -1": ('{"type":"turn","content":"x","temperature":-1}', "temperature"),
    "two choices": ('{"type":"turn","content":"x","n":2}', "n"),
    "logprobs": ('{"type":"turn","content":"x","logprobs":true}', None),
    "top_logprobs": ('{"type":"turn","content":"x","top_logprobs":2}', None),
    "a salt of a turn": ('{"type":"turn","content":"x","cache_salt":"s"}', None),
    "an empty salt": ('{"type":"open","cache_salt":""}', "cache_salt"),
    "a salt for an old session": ('{"type":"open","session":"x","cache_salt":"s"}', None),
    "tools": ('{"type":"turn","content":"x","tools":[{}]}', "tools"),
    "ack without number": ('{"type":"ack"}', "last"),
    "ack of a word": ('{"type":"ack","last":"x"}', "last"),
    "ack below zero": ('{"type":"ack","last":-1}', "last"),
    "ack of the future": ('{"type":"ack","last":99}', "last"),
    "cancel of the future": ('{"type":"cancel","last":99}', "last"),
    "a slip": ('{"type":"cancel","lats":1}', "lats"),
    "a second open": ('{"type":"open"}', None),
}
MSGPACK_FRAMES = {
    "nothing": b"",
    "half a map": b"\x82\xa4type",
    "two frames": msgpack.packb({"type": "cancel"}) * 2,
    "an int": b"\x01",
    "bytes for text": msgpack.packb({"type": "turn", "content": b"x"}),
    "a list as key": b"\x81\x91\x01\x01",
    "a number as key": msgpack.packb({"type": "turn", "content": "x", 1: 2}),
    "a time": msgpack.packb({"type": "turn", "content": msgpack.Timestamp(1)}),
    "bad utf-8": b"\x81\xa4type\xa2\xff\xfe",
    "nested too deeply": b"\x91" * 100_000,
    "a length that is not there": b"\xdf\xff\xff\xff\xff",
    "nan": msgpack.packb({"type": "turn", "content": "x", "temperature": float("nan")}),
}


async def goes_on(peer) -> None:
    assert (await peer.turn())["finish_reason"] == "length"


@pytest.mark.parametrize("name", JSON_FRAMES)
async def test_a_bad_json_frame_is_refused_by_name_and_the_conversation_goes_on(live, connect, name):
    raw, param = JSON_FRAMES[name]
    peer = await connect(live)
    await peer.socket.send_str(raw)
    error = await peer.receive()
    assert (error["type"], error["code"], error["status"]) == ("error", "invalid_request_error", 400)
    assert (error["param"], error["number"]) == (param, None)
    assert error["request_id"].startswith("req-")
    await goes_on(peer)


@pytest.mark.parametrize("name", MSGPACK_FRAMES)
async def test_a_bad_msgpack_frame_is_refused_and_the_conversation_goes_on(live, connect, name):
    peer = await connect(live, MSGPACK)
    await peer.socket.send_bytes(MSGPACK_FRAMES[name])
    assert (await peer.receive())["code"] == "invalid_request_error"
    await goes_on(peer)


async def test_the_other_kind_of_message_is_refused(live, connect):
    text, binary = await connect(live, JSON), await connect(live, MSGPACK)
    await text.socket.send_bytes(b'{"type":"cancel"}')
    assert "text" in (await text.receive())["message"]
    await binary.socket.send_str('{"type":"cancel"}')
    assert "binary" in (await binary.receive())["message"]
    await goes_on(text)
    await goes_on(binary)


@pytest.mark.parametrize("kind", ["turn", "ack", "cancel", "close"])
async def test_whatever_comes_before_open_is_refused(live, connect, kind):
    peer = await connect(live, opened=False)
    await peer.send(kind, **{"turn": {"content": "x"}, "ack": {"last": 0}}.get(kind, {}))
    assert (await peer.receive())["message"] == "open a session first"
    await peer.open()
    await goes_on(peer)


async def test_a_turn_that_is_too_long_ends_with_an_error_and_leaves_no_trace(serve, connect):
    live = await serve(model={"max_model_len": 60})
    peer = await connect(live)
    await peer.send("turn", content="x" * 100)
    error = await peer.receive()
    assert (error["code"], error["number"]) == ("context_length_exceeded", 1)
    await goes_on(peer)


async def test_a_history_that_is_too_long_is_refused_when_it_comes(serve, connect):
    live = await serve(model={"max_model_len": 60})
    peer = await connect(live, opened=False)
    history = [{"role": "user", "content": "x" * 100}]
    assert (await peer.open(messages=history))["code"] == "context_length_exceeded"
    assert (await live.gauges())["chat_sessions"] == 0


async def test_another_model_is_refused(live, connect):
    peer = await connect(live)
    await peer.send("turn", content="x", model="other")
    assert (await peer.receive())["code"] == "model_not_found"
    await goes_on(peer)


@pytest.mark.parametrize("message", [b"x" * 2000, "x" * 2000])
async def test_a_message_that_is_too_large_closes_the_connection_only(serve, connect, message):
    live = await serve(limits={"max_body": 1000})
    peer = await connect(live)
    await (peer.socket.send_bytes if isinstance(message, bytes) else peer.socket.send_str)(message)
    assert await peer.closed() == 1009
    await goes_on(await connect(live, session=peer.session))


async def test_text_that_is_not_utf_8_closes_the_connection_only(live, connect):
    peer = await connect(live)
    await peer.socket._writer.send_frame(b"\xff", aiohttp.WSMsgType.TEXT)
    assert await peer.closed() == 1007
    await goes_on(await connect(live, session=peer.session))


async def test_noise_instead_of_frames_closes_the_connection_only(live, connect):
    peer = await connect(live)
    peer.socket._response.connection.transport.write(b"\xff" * 64)
    assert await peer.closed() == 1002
    await goes_on(await connect(live, session=peer.session))


@pytest.mark.parametrize("protocols", [[], ["graphql-ws"], ["fastswitch.v2.json", "chat"]])
async def test_a_client_without_a_known_subprotocol_learns_the_known_ones(live, protocols):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live.http.ws_connect(ROUTE, protocols=protocols)
    assert refused.value.status == 400


async def test_the_first_protocol_of_ours_is_chosen(live):
    socket = await live.http.ws_connect(ROUTE, protocols=["other", MSGPACK, JSON])
    assert socket.protocol == MSGPACK


async def test_a_plain_request_learns_that_this_is_a_websocket(live):
    response = await live.http.get(ROUTE, headers={"Sec-WebSocket-Protocol": JSON})
    assert response.status == 400
    assert "WebSocket" in (await response.json())["error"]["message"]


async def test_pages_of_other_sites_are_refused(live):
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await live.http.ws_connect(ROUTE, protocols=[JSON], headers={"Origin": "https://evil.example"})
    assert refused.value.status == 403
