"""Frames of every kind with every kind of mistake: each is answered, none breaks anything, nothing is left behind."""

import json

import aiohttp
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.context import DOOR

JSON, MSGPACK = "fastswitch.v1.json", "fastswitch.v1.msgpack"
KINDS = ["open", "turn", "ack", "cancel", "close", "token", "", "x"]
FIELDS = [
    "content",
    "messages",
    "last",
    "session",
    "user",
    "max_tokens",
    "stop",
    "n",
    "seed",
    "logit_bias",
    "model",
    "y",
]
CLOSED_BY_US = {1000, 1002, 1003, 1007, 1009}

words = st.sampled_from(["", "Hi", "\x00", "é🙂", "assistant", "x" * 3000]) | st.text(max_size=10)
plain = st.none() | st.booleans() | st.integers(-2, 2**53) | st.floats() | words
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=5,
)
message = st.fixed_dictionaries({"role": st.sampled_from(["user", "system", "tool"]), "content": values})
frames = st.dictionaries(st.sampled_from(FIELDS), values | st.lists(message, max_size=2), max_size=3)
good_turns = st.fixed_dictionaries({"type": st.just("turn"), "content": words, "max_tokens": st.integers(1, 4)})
anything = st.one_of(
    st.builds(lambda kind, fields: {**fields, "type": kind}, st.sampled_from(KINDS), frames),
    good_turns,
    st.just({"type": "open"}),
    values,
    st.binary(max_size=20),
)


def encode(frame, binary: bool) -> bytes:
    if isinstance(frame, bytes):
        return frame
    return msgpack.packb(frame) if binary else json.dumps(frame).encode()


@pytest.mark.parametrize("protocol", [JSON, MSGPACK])
@given(sent=st.lists(anything, min_size=1, max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_is_sent_is_answered_and_nothing_breaks(live, protocol, sent):
    binary = protocol == MSGPACK
    async with live.http.ws_connect("/v1/chat/stream", protocols=[protocol]) as socket:
        kind = aiohttp.WSMsgType.BINARY if binary else aiohttp.WSMsgType.TEXT
        for frame in [*sent, {"type": "the last one"}]:
            try:
                await socket._writer.send_frame(encode(frame, binary), kind)
            except aiohttp.ClientConnectionResetError:  # what came before ended it
                break
        async for received in socket:
            answer = msgpack.unpackb(received.data) if binary else json.loads(received.data)
            assert answer["type"] in {"opened", "token", "done", "error"}
            assert answer.get("code") != "internal_error"
            if "the last one" in answer.get("message", ""):
                await socket.close()
        assert socket.close_code in CLOSED_BY_US
    gauges = await live.until(lambda gauges: gauges["websocket_connections"] == live.app[DOOR].inside == 0)
    assert gauges["num_requests_waiting"] == 0
