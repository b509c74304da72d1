"""Turns that wait for their first step: frames tell where, and the wait is bounded."""

import pytest

from clients.conversation import Conversation
from clients.protocol import Queued
from clients.websocket import ChatSocket

ONE_SLOT = {"max_num_seqs": 1}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report places often, so that no test waits for one."""
    monkeypatch.setattr("service.api.websocket.turn.REPORT_EVERY_S", 0.01)


async def _end(peer):
    """Read on to what is no place in the queue."""
    while (frame := await peer.receive())["type"] == "queued":
        pass
    return frame


async def hold_the_slot(live, connect, stepped, max_tokens: int = 4):
    peer = await connect(live)
    await peer.send("turn", content="Hi", max_tokens=max_tokens)
    stepped.allow(1)
    await peer.reads(1)
    return peer


async def test_a_turn_is_told_its_place_until_it_starts(serve, connect, stepped):
    live = await serve(stepped, core=ONE_SLOT)
    first = await hold_the_slot(live, connect, stepped, max_tokens=5)
    second, third = await connect(live), await connect(live)
    await second.send("turn", content="Hi", max_tokens=4)
    assert await second.receive() == {"type": "queued", "position": 1, "reason": None, "estimate_s": None}
    stepped.allow(1)  # only a step says why it waits
    assert await second.receive() == {"type": "queued", "position": 1, "reason": "slot", "estimate_s": None}
    await third.send("turn", content="Hi", max_tokens=4)
    assert (await third.receive())["position"] == 2
    stepped.allow(4)  # the first ends, the second starts
    while (place := await third.receive())["position"] != 1:
        pass
    assert place["estimate_s"] is None or place["estimate_s"] > 0
    stepped.allow()
    assert (await first.until("done"))["finish_reason"] == "length"
    frames = [await second.receive()]
    while frames[-1]["type"] != "done":
        frames.append(await second.receive())
    places = [frame["position"] for frame in frames if frame["type"] == "queued"]
    assert places[-1] == 0
    assert frames[len(places)]["type"] in ("token", "done")
    await third.until("done")


async def test_a_client_that_comes_back_is_told_its_place_again(serve, connect, stepped):
    live = await serve(stepped, core=ONE_SLOT)
    await hold_the_slot(live, connect, stepped)
    waits = await connect(live)
    await waits.send("turn", content="Hi", max_tokens=4)
    await waits.until("queued")
    waits.kill()
    back = await connect(live, session=waits.session)
    assert (await back.receive())["position"] == 1
    stepped.allow()
    await back.until("done")


async def test_a_turn_that_waited_too_long_ends_with_an_error_and_others_go_on(serve, connect, stepped):
    live = await serve(stepped, core=ONE_SLOT | {"queue_timeout_s": 0.05})
    first = await hold_the_slot(live, connect, stepped, max_tokens=3000)
    second = await connect(live)
    await second.send("turn", content="Hi", max_tokens=4)
    frame = await stepped.until(_end(second))
    assert (frame["code"], frame["status"], frame["number"]) == ("queue_timeout", 503, 1)
    assert frame["retry_after_s"] >= 1
    stepped.allow()
    assert (await first.until("done"))["finish_reason"] == "length"
    assert (await second.turn(max_tokens=4))["finish_reason"] == "length"


async def test_python_conversation_is_told_its_place(serve, connect, stepped):
    live = await serve(stepped, core=ONE_SLOT)
    await hold_the_slot(live, connect, stepped)
    places = []

    def note(queued: Queued) -> None:
        places.append(queued)
        stepped.allow()

    async with ChatSocket(live.url) as socket:
        conversation = Conversation(socket, on_queued=note, max_tokens=4, seed=1)
        text = "".join([piece async for piece in conversation.say("Hi")])
    assert (places[0], places[-1]) == (Queued(1), Queued(0))
    assert text
    assert str(places[0]) == "waiting, 1st in the queue"
