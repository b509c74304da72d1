"""The debug views are correct, and hold ids and numbers only."""

import asyncio
import json

import pytest
from pydantic import TypeAdapter

from service.api.context import STREAMS
from service.api.operations.responses import DebugRequests, DebugState
from service.core.messages.events import Served
from service.engine import Output
from tests.api.conftest import PATIENCE_S

CANARY = "canary-7c1e"


async def state(live):
    return await (await live.http.get("/debug/state")).json()


async def settled(live, holds):
    """Return the state once it is as expected."""
    async with asyncio.timeout(PATIENCE_S):
        view = await state(live)
        while not holds(view["core"]):
            view = await state(live)
    return view


def states(core):
    return [request["state"] for request in core["requests"]]


async def test_an_idle_server_has_nothing_to_tell(live):
    view = await state(live)
    assert (view["status"], view["model"], view["open_requests"], view["tenants"]) == ("ready", "tiny", 0, [])
    assert view["core"]["requests"] == view["core"]["idle_sessions"] == []
    assert [pool["name"] for pool in view["core"]["pools"]] == ["device", "host"]


async def test_it_shows_what_runs_what_waits_and_why(serve):
    live = await serve(core={"max_num_seqs": 1})
    async with await live.chat(stream=True, max_tokens=50_000):
        second = asyncio.create_task(live.chat())
        view = await settled(live, lambda core: [each["because"] for each in core["requests"]] == [None, "slot"])
        second.cancel()
    running, waiting = view["core"]["requests"]
    assert (running["state"], running["slot"]) == ("running", 0)
    assert (waiting["state"], waiting["slot"]) == ("waiting", None)
    assert waiting["since_s"] == waiting["age_s"] >= 0
    assert view["open_requests"] == 2


async def test_it_shows_what_was_preempted_and_why(serve):
    live = await serve(core={"max_num_seqs": 1}, policy="priority")
    async with await live.chat(stream=True, max_tokens=50_000) as first:
        await first.content.readline()
        async with await live.chat(stream=True, max_tokens=50_000, priority=-1):
            view = await settled(live, lambda core: "preempted" in states(core))
    preempted = view["core"]["requests"][0]
    assert (preempted["because"], preempted["preemptions"], preempted["slot"]) == ("slot", 1, None)
    assert 0 <= preempted["since_s"] <= preempted["age_s"]


async def test_it_shows_tenants_with_their_requests_weights_and_shares_to_an_admin_alone(serve, tenants):
    live = await serve(core={"max_num_seqs": 1}, keys=tenants.keys("[tenants.alice]\nweight = 3\n"))
    async with await tenants.chat(live, "alice", stream=True, max_tokens=50_000) as first:
        await first.content.readline()
        live.app[STREAMS]._deliver([Output(Served((("gone", 1e9), ("left", 1e9))))])
        view = await tenants.get(live, "/debug/state")
        refused = await live.http.get("/debug/state", headers=tenants.headers("bob"))
    shown = {each["tenant"]: each for each in view["tenants"]}
    assert shown.keys() == {"alice", "gone", "left"}
    assert (shown["alice"]["running"], shown["alice"]["waiting"], shown["alice"]["weight"]) == (1, 0, 3)
    assert shown["gone"]["share"] == pytest.approx(0.5, abs=0.01)  # but for what Alice got
    assert (refused.status, "gone" in await refused.text()) == (403, False)


async def test_its_numbers_are_those_of_the_metrics(serve):
    live = await serve(core={"max_num_seqs": 2, "device_blocks": 500})
    for number in range(3):
        await (await live.chat(f"Conversation {number}")).read()
    gauges = await live.until(lambda gauges: gauges["idle_sessions"] == 3)
    core = (await state(live))["core"]
    (device,) = [pool for pool in core["pools"] if pool["name"] == "device"]
    assert device["blocks"] == gauges["kv_blocks_total"] == 500
    assert device["used"] == gauges["kv_blocks_used"] == sum(session["blocks"] for session in core["idle_sessions"]) > 0
    assert device["reserved"] == gauges["kv_blocks_reserved"]
    assert device["used"] + device["reserved"] + device["free"] == 500
    assert len(core["idle_sessions"]) == device["owners"] == core["gauges"]["idle_sessions"] == 3
    assert core["slots"] == core["slots_free"] == 2


async def test_a_request_runs_from_its_submission_to_its_end(live):
    response = await live.chat(max_tokens=5)
    answer = await response.json()
    names = (answer["id"], response.headers["X-Request-Id"])
    (by_id,), (by_header,) = [
        (await (await live.http.get(f"/debug/requests/{name}")).json())["requests"] for name in names
    ]
    assert by_id == by_header
    assert [event["event"] for event in by_id["events"]] == ["submitted", "started", "finished"]
    times = [event["at"] for event in by_id["events"]]
    assert times == sorted(times)
    assert by_id["events"][-1]["reason"] == "length"
    assert (by_id["tokens"], by_id["prompt_tokens"]) == (5, answer["usage"]["prompt_tokens"])


async def test_the_choices_of_an_answer_are_found_together(live):
    answer = await (await live.chat(n=3)).json()
    found = await (await live.http.get(f"/debug/requests/{answer['id']}")).json()
    assert len(found["requests"]) == 3


@pytest.mark.parametrize("name", ["nobody", "chatcmpl", "chatcmpl-"])
async def test_an_unknown_request_is_404(live, name):
    await (await live.chat()).read()
    assert (await live.http.get(f"/debug/requests/{name}")).status == 404


async def test_no_text_and_no_tokens_are_shown(live):
    async with await live.chat(CANARY, user=CANARY, stop=CANARY, stream=True, max_tokens=50_000):
        view = await settled(live, lambda core: states(core) == ["running"])
    (request,) = view["core"]["requests"]
    record = await (await live.http.get(f"/debug/requests/{request['request_id']}")).json()
    assert CANARY not in json.dumps([view, record])
    assert not [name for name, value in request.items() if isinstance(value, list)]


async def test_a_failed_engine_leaves_the_edge_to_be_seen(live):
    live.app[STREAMS]._engine.failed = RuntimeError()
    view = await state(live)
    assert (view["status"], view["core"], view["max_open_requests"]) == ("failed", None, 1088)
    assert (view["service_window_s"], view["tenants"]) == (300, [])


ELSEWHERE = [{"X-Forwarded-For": "10.0.0.1"}, {"Forwarded": "for=10.0.0.1"}, {"Host": "evil.example"}]


@pytest.mark.parametrize("headers", ELSEWHERE)
async def test_without_keys_only_programs_on_this_machine_may_look(live, headers):
    for path in ("/debug/state", "/debug/requests/any"):
        assert (await live.http.get(path, headers=headers)).status == 403


async def test_the_prompts_and_choices_of_a_completion_are_found_together(live):
    answer = await (await live.complete(["Once", "Twice"], n=2)).json()
    found = (await (await live.http.get(f"/debug/requests/{answer['id']}")).json())["requests"]
    assert [record["request_id"] for record in found] == [f"{answer['id']}-{at}" for at in ("0-0", "0-1", "1-0", "1-1")]


def all_of(kind, raw):
    """Return a JSON text without what the type does not know."""
    adapter = TypeAdapter(kind)
    return json.loads(adapter.dump_json(adapter.validate_json(raw)))


async def test_the_state_is_of_the_described_type_and_has_nothing_else(serve, tenants):
    live = await serve(core={"max_num_seqs": 1}, keys=tenants.keys("[tenants.bob]\ntokens_per_minute = 9000\n"))
    for end in "ab":
        await (await tenants.chat(live, "bob", content=20 * "Hi there " + end)).read()
    async with await tenants.chat(live, "alice", stream=True, max_tokens=50_000) as first:
        await first.content.readline()
        response = await live.http.get("/debug/state", headers=tenants.headers("ops"))
        raw = await response.text()
    assert all_of(DebugState, raw) == json.loads(raw)
    core = json.loads(raw)["core"]
    assert core["requests"]
    assert [session["prefix"] for session in core["idle_sessions"]] == [core["prefixes"][0]["number"]] * 2
    assert core["prefixes"][0]["sessions"] == 2


async def test_the_record_of_a_request_is_of_the_described_type_and_has_nothing_else(serve):
    live = await serve(core={"max_num_seqs": 1}, policy="priority")
    async with await live.chat(stream=True, max_tokens=40_000) as first:
        await first.content.readline()
        await (await live.chat(priority=-1)).read()
        await settled(live, lambda core: [each["preemptions"] for each in core["requests"]] == [1])
        request_id = first.headers["X-Request-Id"]
    await live.until(lambda gauges: gauges["num_requests_running"] == gauges["num_requests_preempted"] == 0)
    raw = await (await live.http.get(f"/debug/requests/{request_id}")).text()
    assert all_of(DebugRequests, raw) == json.loads(raw)
    (record,) = json.loads(raw)["requests"]
    kinds = {event["event"] for event in record["events"]}
    assert kinds == {"submitted", "started", "preempted", "resumed", "finished"}
