"""Frames of every kind with every kind of mistake: each is answered, none breaks anything, nothing is left behind."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import aiohttp
import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.api.context import DOOR
from service.api.websocket.sessions import SESSIONS

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
ROUTE = "/v1/chat/stream"
EXAMPLES = 3 * settings().max_examples  # conversations in each encoding: with the full profile, 6000 in all
HANG_S = 60.0
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
good = st.one_of(
    st.just({"type": "open"}),
    st.fixed_dictionaries({"type": st.just("turn"), "content": words, "max_tokens": st.integers(1, 4)}),
    st.builds(lambda kind, last: {"type": kind, "last": last}, st.sampled_from(["ack", "cancel"]), st.integers(0, 9)),
    st.just({"type": "close"}),
)
bad = st.one_of(
    st.builds(lambda kind, fields: {**fields, "type": kind}, st.sampled_from(KINDS), frames),
    values,
    st.binary(max_size=20),
)
anything = st.booleans().flatmap(lambda well: good if well else bad)  # one_of would make one list of all of them
conversations = st.builds(
    lambda opens, rest: [{"type": "open"}] * opens + rest, st.booleans(), st.lists(anything, min_size=1, max_size=12)
)


def encode(frame, binary: bool) -> bytes:
    if isinstance(frame, bytes):
        return frame
    return msgpack.packb(frame) if binary else json.dumps(frame).encode()


async def answered(socket, send) -> set[str]:
    """Types of all frames up to the end: of a frame that closed the connection, or of a last good turn."""
    kinds, last_turn = set(), False
    async for received in socket:
        answer = msgpack.unpackb(received.data) if socket.protocol == MSGPACK else json.loads(received.data)
        assert answer["type"] in {"opened", "token", "done", "error"}
        assert answer.get("code") != "internal_error"
        kinds.add(answer["type"])
        if "the last one" in answer.get("message", ""):
            last_turn = True
            for frame in ({"type": "open"}, {"type": "turn", "content": "Hi", "max_tokens": 1}):
                await send(frame)
        elif last_turn and (answer["type"] == "done" or (answer["type"] == "error" and answer["number"])):
            await socket.close()  # of this turn, or of one that was still under way
    assert socket.close_code in CLOSED_BY_US
    return kinds


class Tally:
    """What was tried over one encoding."""

    def __init__(self) -> None:
        self.conversations = 0
        self.sent: Counter[str] = Counter()
        self.received: set[str] = set()

    def note(self, sent, received) -> None:
        self.conversations += 1
        self.received |= received
        self.sent.update(str(frame.get("type")) for frame in sent if isinstance(frame, dict))

    def check(self) -> None:
        """Check the number of conversations, and that frames of every kind went in both directions."""
        assert self.conversations >= EXAMPLES
        assert {"open", "turn", "ack", "cancel", "close"} <= self.sent.keys()
        assert self.received == {"opened", "token", "done", "error"}


@pytest.fixture(params=[JSON, MSGPACK])
def protocol(request) -> str:
    return request.param


@pytest.fixture
async def live(serve):
    """A context of a few turns: answers without a limit of their own are short, and long conversations meet it.

    Blocks that nobody holds any more expire at once.
    """
    return await serve(model={"max_model_len": 300}, core={"session_ttl_s": 0.1})


@pytest.fixture
def tally() -> Iterator[Tally]:
    tally = Tally()
    yield tally
    tally.check()


@pytest.fixture
async def left(live) -> AsyncIterator[None]:
    """Check that nothing is left of the examples."""
    await live.gauges()
    tasks = len(asyncio.all_tasks())
    yield
    over = ("chat_sessions", "websocket_connections", "num_requests_running", "num_requests_waiting", "kv_blocks_used")
    live.app[SESSIONS].drain()
    for session in list(live.app[SESSIONS]._by_id.values()):
        live.app[SESSIONS].remove(session)
    await live.until(lambda gauges: not any(gauges[name] for name in over))
    live.engine._core.check()
    assert len(asyncio.all_tasks()) == tasks


@given(sent=conversations)
@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_is_sent_is_answered_and_nothing_breaks(live, left, tally, protocol, sent):
    kind = aiohttp.WSMsgType.BINARY if protocol == MSGPACK else aiohttp.WSMsgType.TEXT
    async with asyncio.timeout(HANG_S), live.http.ws_connect(ROUTE, protocols=[protocol]) as socket:

        async def send(frame) -> None:
            with suppress(aiohttp.ClientConnectionResetError):  # what came before ended it
                await socket._writer.send_frame(encode(frame, protocol == MSGPACK), kind)

        for frame in [*sent, {"type": "the last one"}]:
            await send(frame)
        tally.note(sent, await answered(socket, send))
    gauges = await live.until(lambda gauges: gauges["websocket_connections"] == live.app[DOOR].inside == 0)
    assert gauges["num_requests_waiting"] == 0


headers = st.dictionaries(
    st.sampled_from(["Upgrade", "Connection", "Sec-WebSocket-Version", "Sec-WebSocket-Key", "Sec-WebSocket-Protocol"]),
    st.sampled_from(["websocket", "Upgrade", "13", "8", JSON, MSGPACK, f"x, {JSON}", "A" * 22 + "==", ""])
    | st.text("az,;= 0\xe9", max_size=9).map(str.strip),
)


@given(headers=headers)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
async def test_whatever_asks_for_an_upgrade_is_answered(live, headers):
    async with asyncio.timeout(HANG_S), live.http.get(ROUTE, headers=headers) as response:
        assert response.status in (101, 400)
        response.close()
