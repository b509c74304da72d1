"""Nothing of one tenant shows in what another sees, nor its text and key in what the operator sees."""

import asyncio
import json

import pytest

CANARY = "canary-7c1e"
CHAT = "/v1/chat/completions"


SECRETS = {
    "prompt": {"messages": [{"role": "user", "content": CANARY}], "stream": True},
    "user": {"messages": [{"role": "user", "content": "Hi"}], "user": CANARY, "stream": True},
    "stop": {"messages": [{"role": "user", "content": "Hi"}], "stop": CANARY, "stream": True},
    "mistake": {"messages": [{"role": CANARY, "content": "Hi"}]},
}


@pytest.mark.parametrize("case", SECRETS)
async def test_a_secret_is_seen_by_no_other_tenant(log, serve, tenants, case):
    live = await serve(core={"max_num_seqs": 1}, keys=tenants.keys("[tenants.alice]\nmax_requests = 1\n"))
    body = {"max_tokens": 2000, **SECRETS[case]}
    async with live.http.post(CHAT, json=body, headers=tenants.headers("alice")) as first:
        await first.content.readline()
        seen = [await everything(live, tenants)]  # while it runs
    seen.append(await everything(live, tenants))  # and when it is gone
    seen.append(log.getvalue())
    for text in seen:
        assert CANARY not in text
        assert tenants.key["alice"] not in text


async def everything(live, tenants) -> str:
    """Return everything that bob and the operator can see."""
    texts = []
    routes = [route.resource.canonical for route in live.app.router.routes() if route.method == "GET"]
    for name in ("bob", "ops"):
        for path in (*routes, "/no/such/route"):
            response = await live.http.get(path.replace("{id}", "tiny"), headers=tenants.headers(name))
            texts += [await response.text(), str(response.headers)]
    for request in (await tenants.get(live, "/debug/state"))["core"]["requests"]:
        texts.append(json.dumps(await tenants.get(live, f"/debug/requests/{request['request_id']}")))
    answer = asyncio.create_task(tenants.chat(live, "bob", max_tokens=2))
    texts.append(await (await answer).text())
    return "\n".join(texts)


async def test_another_tenants_request_is_not_found_under_its_id(serve, tenants):
    live = await serve(keys=tenants.keys())
    answer = await (await tenants.chat(live, "alice")).json()
    response = await live.http.get(f"/debug/requests/{answer['id']}", headers=tenants.headers("bob"))
    assert response.status == 403


async def test_the_log_says_which_tenant_asked(log, serve, tenants):
    live = await serve(keys=tenants.keys())
    await (await tenants.chat(live, "alice")).read()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line["tenant"] for line in lines if line.get("route") == CHAT] == ["alice"]


async def test_labels_are_names_of_the_key_file_whatever_users_call_themselves(serve, tenants):
    live = await serve(keys=tenants.keys())
    for number in range(5):
        await (await tenants.chat(live, "alice", user=f"user {number}")).read()
    names = {labels[-1] for _, *labels in await tenants.metrics(live)}
    assert names == {"alice"}


async def test_without_keys_no_tenant_has_a_metric(live):
    await (await live.chat(user="ann")).read()
    assert 'tenant="' not in await (await live.http.get("/metrics")).text()
