"""Keys on the chat stream: who may connect, which sessions belong to whom, and which limits hold."""

import re
from ipaddress import ip_network

import aiohttp
import pytest

from clients.conversation import Conversation
from clients.errors import AccessDeniedError
from clients.websocket import ChatSocket
from service.api.access.key_ring import new_key
from service.api.websocket.sessions import SESSIONS

JSON = "fastswitch.v1.json"
ROUTE = "/v1/chat/stream"


@pytest.fixture
async def guarded(serve, tenants):
    return await serve(keys=tenants.keys())


@pytest.mark.parametrize("credentials", [None, "Bearer {nobody}", "Basic {alice}"])
async def test_without_a_good_key_there_is_no_connection(guarded, tenants, credentials):
    headers = {} if credentials is None else {"Authorization": credentials.format(**tenants.key, nobody=new_key())}
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await guarded.http.ws_connect(ROUTE, protocols=[JSON], headers=headers)
    assert refused.value.status == 401


async def test_a_key_as_a_subprotocol_is_valid_and_is_not_echoed(guarded, tenants):
    key = f"fastswitch.key.{tenants.key['alice']}"
    socket = await guarded.http.ws_connect(ROUTE, protocols=[key, JSON])
    assert socket.protocol == JSON
    assert tenants.key["alice"] not in str(socket._response.headers)


async def test_another_tenants_session_is_as_good_as_none(guarded, tenants, connect):
    alice = await connect(guarded, headers=tenants.headers("alice"), user="u")
    await alice.turn()
    bob = await connect(guarded, headers=tenants.headers("bob"), opened=False)
    assert (await bob.open(session=alice.session, user="u"))["code"] == "session_lost"
    back = await connect(guarded, headers=tenants.headers("alice"), session=alice.session, last=alice.last, user="u")
    assert (await back.turn())["usage"]["reused_tokens"] > 0


BY_BOB = {  # all that a body may say of whose it is
    "messages": [{"role": "user", "content": "What did I say?"}],
    "prompt": "What did I say?",
    "tokens": [70],
    "user": "u",
    "max_tokens": 4,
    "seed": 2,
}


async def test_another_tenants_session_shows_on_no_route(guarded, tenants, connect, log):
    alice = await connect(guarded, headers=tenants.headers("alice"), user="u")
    await alice.turn("canary-question", max_tokens=20)
    assert len(alice.text) > 5
    await alice.send("turn", content="canary-more", max_tokens=50_000)
    await alice.until("token")
    routes = [(route.method, route.resource.canonical) for route in guarded.app.router.routes()]
    for name in ("bob", "ops"):
        for method, path in routes:
            response = await guarded.http.request(
                method,
                path.replace("{id}", alice.session),
                params={"session": alice.session},
                json={**BY_BOB, "session": alice.session},
                headers=tenants.headers(name),
            )
            seen = f"{response.headers} {await response.text()}"
            assert "canary" not in seen
            assert alice.text not in seen
            assert not re.search(r'"cached_tokens": ?[1-9]', seen)
    for secret in ("canary", alice.session, alice.text):
        assert secret not in log.getvalue()


async def test_a_withdrawn_key_ends_at_the_next_turn(guarded, tenants, connect):
    alice = await connect(guarded, headers=tenants.headers("alice"))
    await alice.turn()
    tenants.write(names=("bob", "ops"))
    await alice.send("turn", content="Still there?")
    assert await alice.closed() == 4401


async def test_turns_and_sessions_are_charged_to_the_tenant(guarded, tenants, connect):
    alice = await connect(guarded, headers=tenants.headers("alice"), user="a-secret-user")
    await alice.turn()
    metrics = await tenants.metrics(guarded)
    assert metrics["generation_tokens_total", "alice"] == 8
    assert "secret" not in str(metrics)
    assert (await tenants.get(guarded, "/debug/state"))["tenants"][0]["open_sessions"] == 1
    await alice.send("close")
    await alice.closed()
    assert (await tenants.get(guarded, "/debug/state"))["tenants"][0]["open_sessions"] == 0


async def test_logs_have_no_text_no_key_and_no_session(guarded, tenants, connect, log):
    alice = await connect(guarded, headers=tenants.headers("alice"), user="canary-user")
    await alice.turn("canary-question")
    await alice.send("canary-type", session=alice.session)
    await alice.receive()
    alice.kill()
    back = await connect(guarded, headers=tenants.headers("alice"), opened=False)
    await back.open(session="canary-session", user="canary-user")
    await back.socket.close()
    while "/v1/chat/stream" not in log.getvalue():
        await guarded.http.get("/health")
    for secret in ("canary", alice.session, tenants.key["alice"], alice.text):
        assert secret not in log.getvalue()


async def test_a_tenants_session_limit_holds_and_others_are_served(serve, tenants, connect):
    live = await serve(keys=tenants.keys("[tenants.alice]\nmax_sessions = 1\n"))
    first = await connect(live, headers=tenants.headers("alice"))
    second = await connect(live, headers=tenants.headers("alice"), opened=False)
    assert (await second.open())["code"] == "session_limit_exceeded"
    bob = await connect(live, headers=tenants.headers("bob"))
    assert (await bob.turn())["type"] == "done"
    await first.send("close")
    await first.closed()
    assert (await second.open())["type"] == "opened"


async def test_at_its_limit_a_tenants_own_resting_session_makes_room(serve, tenants, connect):
    limits = "".join(f"[tenants.{name}]\nmax_sessions = 1\n" for name in ("alice", "bob"))
    live = await serve(keys=tenants.keys(limits))
    bob, old = [await connect(live, headers=tenants.headers(name)) for name in ("bob", "alice")]
    for peer in (bob, old):
        chat = live.app[SESSIONS]._by_id[peer.session]
        peer.kill()
        while chat.reader is not None:
            await live.http.get("/health")
    await connect(live, headers=tenants.headers("alice"))
    lost = await connect(live, headers=tenants.headers("alice"), opened=False)
    assert (await lost.open(session=old.session))["code"] == "session_lost"
    back = await connect(live, headers=tenants.headers("bob"), opened=False)
    assert (await back.open(session=bob.session))["type"] == "opened"


async def test_a_better_priority_than_allowed_ends_the_turn(serve, tenants, connect):
    live = await serve(keys=tenants.keys("[tenants.alice]\nmax_priority = 5\n"))
    alice = await connect(live, headers=tenants.headers("alice"))
    await alice.send("turn", content="Hi", priority=0)
    error = await alice.receive()
    assert (error["status"], error["param"], error["number"]) == (403, "priority", 1)


async def test_a_tenant_out_of_tokens_learns_when_to_try_again(serve, tenants, connect):
    live = await serve(keys=tenants.keys("[tenants.alice]\ntokens_per_minute = 40\n"))
    alice = await connect(live, headers=tenants.headers("alice"))
    await alice.turn(max_tokens=30)
    await alice.send("turn", content="More")
    error = await alice.receive()
    assert (error["status"], error["retry_after_s"] > 0) == (429, True)
    bob = await connect(live, headers=tenants.headers("bob"))
    assert (await bob.turn())["type"] == "done"


async def test_the_python_client_sends_its_key(guarded, tenants):
    async with ChatSocket(guarded.url, tenants.key["alice"]) as socket:
        conversation = Conversation(socket, max_tokens=4)
        assert [piece async for piece in conversation.say("Hi")]
    async with ChatSocket(guarded.url, new_key()) as socket:
        with pytest.raises(AccessDeniedError):
            [piece async for piece in Conversation(socket).say("Hi")]


async def test_a_chat_over_a_proxy_goes_on_and_is_charged_to_the_client(serve, watch, connect):
    live = await serve(limits={"trusted_proxies": (ip_network("127.0.0.0/8"),)})
    submits = watch(live.engine)
    peer = await connect(live, headers={"X-Forwarded-For": "192.0.2.7"}, user="ann")
    await peer.turn(service_tier="flex")
    assert (await peer.turn("And?"))["usage"]["reused_tokens"] > 0
    assert [(each.tenant, each.user, each.background) for each in submits] == [
        ("address:192.0.2.7", "ann", True),
        ("address:192.0.2.7", "ann", False),
    ]
