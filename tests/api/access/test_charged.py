"""Who is charged for a request, with what weight, and whether as background work: as core learns of it."""

from ipaddress import ip_network

import aiohttp
import pytest
from aiohttp import web

from service.api.access.addresses import address_tenant
from service.api.context import ACCOUNTS
from service.api.server import app_runner

HELLO = {"messages": [{"role": "user", "content": "Hi there"}], "max_tokens": 2, "seed": 1}
CHAT = "/v1/chat/completions"
LOCAL = (ip_network("127.0.0.0/8"),)


async def ask(http: aiohttp.ClientSession, **options) -> dict:
    async with http.post(CHAT, json=HELLO, **options) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def test_many_connections_of_an_address_are_one_tenant(live, watch):
    submits = watch(live.engine)
    for _ in range(3):
        async with aiohttp.ClientSession(live.url) as http:
            await ask(http)
    assert {(submit.tenant, submit.user) for submit in submits} == {("address:127.0.0.1", "")}
    assert len({submit.scope for submit in submits}) == 1


async def test_another_address_is_another_tenant(live, watch):
    submits = watch(live.engine)
    async with aiohttp.ClientSession(live.url, connector=aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))) as http:
        await ask(http)
    assert [submit.tenant for submit in submits] == ["address:127.0.0.2"]


async def test_a_unix_socket_is_one_tenant(build, watch, tmp_path):
    app, engine, _ = build()
    submits = watch(engine)
    runner = app_runner(app)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(tmp_path / "s")).start()
        for forged in ({}, {"X-Forwarded-For": "192.0.2.7"}):
            async with aiohttp.ClientSession(
                "http://local", connector=aiohttp.UnixConnector(str(tmp_path / "s"))
            ) as http:
                await ask(http, headers=forged)
    finally:
        await runner.cleanup()
    assert {submit.tenant for submit in submits} == {address_tenant(None)}


async def test_users_divide_the_share_of_their_address(live, watch):
    submits = watch(live.engine)
    for user in ("ann", "bob"):
        await live.chat(user=user)
    assert [(submit.tenant, submit.user) for submit in submits] == [
        ("address:127.0.0.1", "ann"),
        ("address:127.0.0.1", "bob"),
    ]


async def test_users_divide_the_share_of_their_key(serve, tenants, watch):
    live = await serve(keys=tenants.keys("[tenants.alice]\nweight = 2.5\n"))
    submits = watch(live.engine)
    for user in (None, "ann", "bob"):
        await tenants.chat(live, "alice", user=user)
    assert [(submit.tenant, submit.user, submit.weight) for submit in submits] == [
        ("alice", "", 2.5),
        ("alice", "ann", 2.5),
        ("alice", "bob", 2.5),
    ]


async def test_choices_are_charged_like_a_single_answer(live, watch):
    submits = watch(live.engine)
    await live.chat(user="ann", n=2, service_tier="flex")
    assert [(each.tenant, each.user, each.background) for each in submits] == [("address:127.0.0.1", "ann", True)] * 2


async def test_a_trusted_proxy_speaks_for_its_clients(serve, watch):
    live = await serve(limits={"trusted_proxies": LOCAL})
    submits = watch(live.engine)
    for address in ("192.0.2.7", "2001:db8:0:5::9"):
        await ask(live.http, headers={"X-Forwarded-For": f"198.51.100.1, {address}"})
    assert [submit.tenant for submit in submits] == ["address:192.0.2.7", "address:2001:db8:0:5::/64"]


async def test_a_forged_header_changes_no_tenant_and_shows_nowhere(live, watch, log):
    submits = watch(live.engine)
    for forged in ("192.0.2.7", "canary-7c1e"):
        await ask(live.http, headers={"X-Forwarded-For": forged})
    assert {submit.tenant for submit in submits} == {"address:127.0.0.1"}
    assert "192.0.2.7" not in log.getvalue()
    assert "canary" not in log.getvalue()


TIERS = {None: None, "auto": "default", "default": "default", "flex": "flex", "priority": "default", "scale": "default"}


@pytest.mark.parametrize("asked", TIERS)
@pytest.mark.parametrize("route", ["chat", "complete"])
async def test_flex_is_background_and_an_answer_says_how_it_was_served(live, watch, route, asked):
    submits = watch(live.engine)
    ask_route = getattr(live, route)
    whole = await (await ask_route(service_tier=asked)).json()
    *chunks, end = await live.events(await ask_route(service_tier=asked, stream=True))
    assert end == "[DONE]"
    assert {each.get("service_tier") for each in (whole, *chunks)} == {TIERS[asked]}
    assert [submit.background for submit in submits] == [asked == "flex"] * 2


@pytest.mark.parametrize("tier", ["fast", "", 1])
async def test_a_tier_that_nobody_has_is_refused(live, tier):
    response = await live.chat(service_tier=tier)
    assert (response.status, (await response.json())["error"]["param"]) == (400, "service_tier")


async def test_all_that_a_background_tenant_asks_for_is_background(serve, tenants, watch):
    live = await serve(keys=tenants.keys("[tenants.alice]\nbackground = true\n"))
    submits = watch(live.engine)
    answer = await (await tenants.chat(live, "alice", service_tier="default")).json()
    await tenants.chat(live, "bob")
    assert answer["service_tier"] == "flex"
    assert [(submit.tenant, submit.background) for submit in submits] == [("alice", True), ("bob", False)]


async def test_names_that_callers_invent_leave_nothing_behind(serve):
    live = await serve(limits={"trusted_proxies": LOCAL}, core={"max_idle_sessions": 2})
    for number in range(20):
        client = {"X-Forwarded-For": f"2001:db8:{number:x}::1"}
        async with live.http.post(CHAT, json={**HELLO, "user": f"user {number}"}, headers=client) as response:
            await response.read()
    assert live.app[ACCOUNTS].views() == []
    gauges = await live.until(lambda gauges: gauges["num_requests_running"] == 0)
    assert gauges["idle_sessions"] <= 2
    assert "address:" not in await (await live.http.get("/metrics")).text()
