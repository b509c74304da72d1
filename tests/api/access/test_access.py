"""Every route without a key, with a wrong one, a tenant's and an admin's."""

import json

import pytest

from service.api.access.key_ring import new_key
from service.api.app import create_app
from service.api.lifecycle import drain
from service.api.page.route import FILES
from service.telemetry.metrics import Metrics
from tests.settings import make_limits

HELLO = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
OPEN = {"/health", "/ready", *FILES}  # probes, and the chat page, which asks for a key itself
ADMINS = {"/metrics", "/debug/state", "/debug/requests/{id}"}


def served() -> dict[str, str]:
    """Return path and method of every route, so that a new route is tried, too."""
    app = create_app(None, None, Metrics(), make_limits())
    return {route.resource.canonical: route.method for route in app.router.routes() if route.method != "HEAD"}


METHODS = served()
CLOSED = sorted(METHODS.keys() - OPEN)


@pytest.fixture
async def guarded(serve, tenants):
    return await serve(keys=tenants.keys())


async def ask(live, path, headers):
    method = METHODS.get(path, "GET")
    path = "/v1/models/tiny" if path == "/v1/models/{id}" else path.replace("{id}", "nobody")
    return await live.http.request(method, path, data=json.dumps(HELLO), headers=headers)


@pytest.mark.parametrize("path", [*CLOSED, "/no/such/route"])
@pytest.mark.parametrize("credentials", [None, "Bearer {nobody}", "Bearer", "Basic {alice}", "{alice}"])
async def test_a_closed_route_needs_a_good_key(guarded, tenants, path, credentials):
    headers = {} if credentials is None else {"Authorization": credentials.format(**tenants.key, nobody=new_key())}
    response = await ask(guarded, path, headers)
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["type"]) == (401, "invalid_api_key", "invalid_request_error")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    assert error["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize("path", sorted(OPEN))
async def test_probes_and_the_page_need_no_key(guarded, path):
    assert (await ask(guarded, path, {})).status == 200


@pytest.mark.parametrize("path", CLOSED)
async def test_a_tenants_key_opens_what_is_not_the_admins(guarded, tenants, path):
    response = await ask(guarded, path, tenants.headers("alice"))
    if path in ADMINS:
        assert response.status == 403
        assert (await response.json())["error"]["code"] == "permission_denied"
    else:
        assert response.status not in (401, 403)


@pytest.mark.parametrize("path", CLOSED)
async def test_an_admins_key_opens_everything(guarded, tenants, path):
    assert (await ask(guarded, path, tenants.headers("ops"))).status not in (401, 403)


async def test_the_scheme_is_written_in_any_case(guarded, tenants):
    headers = {"Authorization": f"bEARER {tenants.key['alice']}"}
    assert (await guarded.http.get("/v1/models", headers=headers)).status == 200


async def test_a_browsers_websocket_may_offer_its_key_as_a_subprotocol(guarded, tenants):
    key = tenants.key["alice"]
    headers = {"Sec-WebSocket-Protocol": f"fastswitch.v1.json, fastswitch.key.{key}"}
    response = await guarded.http.get("/v1/models", headers=headers)
    assert response.status == 200
    assert key not in str(response.headers)


@pytest.mark.parametrize("junk", ["\xe4" * 30, "a" * 5000, "fsk-\t"])
async def test_junk_is_just_a_wrong_key(guarded, junk):
    assert (await guarded.http.get("/v1/models", headers={"Authorization": f"Bearer {junk}"})).status == 401


async def test_keys_come_and_go_without_a_restart(guarded, tenants):
    tenants.write(names=["bob"])
    assert (await tenants.chat(guarded, "alice")).status == 401
    tenants.write(names=["bob", "alice"])
    assert (await tenants.chat(guarded, "alice")).status == 200


async def test_a_broken_key_file_shuts_no_client_out(guarded, tenants):
    tenants.file.write_text("[[keys]")
    assert (await tenants.chat(guarded, "alice")).status == 200


async def test_a_better_priority_than_allowed_is_refused(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\nmax_priority = 5\n"))
    response = await tenants.chat(live, "alice", priority=4)
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (403, "priority_not_allowed", "priority")
    assert (await tenants.chat(live, "alice", priority=5)).status == 200


async def test_who_asks_for_no_priority_gets_what_is_allowed(serve, tenants):
    live = await serve(keys=tenants.keys("[tenants.alice]\nmax_priority = 5\n"))
    answer = await (await tenants.chat(live, "alice")).json()
    (record,) = (await tenants.get(live, f"/debug/requests/{answer['id']}"))["requests"]
    assert record["priority"] == 5


async def test_without_keys_no_key_is_needed_and_any_priority_is_allowed(live):
    assert (await live.chat(priority=-7)).status == 200
    assert (await live.http.get("/metrics")).status == 200


@pytest.mark.parametrize(("name", "reuses"), [("alice", True), ("bob", False)])
async def test_another_tenant_with_the_same_user_name_reuses_nothing(guarded, tenants, name, reuses):
    answer = await (await tenants.chat(guarded, "alice", user="ann", seed=1)).json()
    history = [
        {"role": "user", "content": "Hi there"},
        {"role": "assistant", "content": answer["choices"][0]["message"]["content"]},
        {"role": "user", "content": "And?"},
    ]
    usage = (await (await tenants.chat(guarded, name, messages=history, user="ann")).json())["usage"]
    assert (usage["prompt_tokens_details"]["cached_tokens"] > 0) is reuses


async def test_probes_tell_without_a_key_that_the_server_drains(guarded):
    await drain(guarded.app, 0)
    response = await guarded.http.get("/ready")
    assert (response.status, (await response.json())["status"]) == (503, "shutting_down")
    assert (await guarded.http.get("/health")).status == 200
