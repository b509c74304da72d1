"""Probes, metrics and models; unknown routes; ids on every answer."""

import re
from importlib import metadata

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.api.context import DOOR


async def test_health_and_ready_answer(live):
    for path in ("/health", "/ready"):
        response = await live.http.get(path)
        assert response.status == 200


async def test_a_draining_server_is_healthy_but_not_ready_and_takes_nothing_new(live):
    live.app[DOOR].close()
    assert (await live.http.get("/health")).status == 200
    assert (await live.http.get("/ready")).status == 503
    response = await live.chat()
    assert (response.status, (await response.json())["error"]["code"]) == (503, "shutting_down")
    assert "Retry-After" in response.headers


async def test_models_lists_the_one_that_is_served(live):
    listed = await (await live.http.get("/v1/models")).json()
    shown = await (await live.http.get("/v1/models/tiny")).json()
    assert listed["data"] == [shown]
    assert (shown["id"], shown["object"], shown["max_model_len"]) == ("tiny", "model", 100_000)


async def test_a_model_with_slashes_can_be_shown(serve):
    live = await serve(model={"name": "org/model"})
    assert (await (await live.http.get("/v1/models/org/model")).json())["id"] == "org/model"


async def test_another_model_is_404(live):
    response = await live.http.get("/v1/models/other")
    assert (response.status, (await response.json())["error"]["code"]) == (404, "model_not_found")


async def test_metrics_count_routes_by_pattern(live):
    await live.http.get("/v1/models/nobody-has-this")
    await live.http.get("/no/such/path")
    text = await (await live.http.get("/metrics")).text()
    (family,) = [f for f in text_string_to_metric_families(text) if f.name == "fastswitch_http_requests"]
    routes = {sample.labels["route"] for sample in family.samples}
    assert routes == {"/v1/models/{id}", "unmatched"}


async def test_metrics_know_the_capacity_and_the_loops_lag(live):
    await live.chat()
    gauges = await live.until(lambda gauges: gauges["event_loop_lag_seconds_count"] > 0)
    assert gauges["kv_blocks_total"] == 100_000


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/page", 404, "not_found"),
        ("POST", "/", 405, "method_not_allowed"),
        ("POST", "/v2/chat", 404, "not_found"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
    ],
)
async def test_wrong_routes_and_methods_are_json_errors(live, method, path, status, code):
    response = await live.http.request(method, path)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (status, code)
    assert error["request_id"] == response.headers["X-Request-Id"]


async def test_a_wrong_method_is_answered_with_the_right_ones(live):
    response = await live.http.get("/v1/chat/completions")
    assert response.headers["Allow"] == "POST"


async def test_a_failed_engine_is_neither_healthy_nor_ready_and_takes_nothing(live):
    live.engine.failed = RuntimeError("a bug")
    assert (await live.http.get("/health")).status == 503
    assert (await live.http.get("/ready")).status == 503
    response = await live.chat()
    assert (response.status, (await response.json())["error"]["code"]) == (500, "internal_error")


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/v1/models", "/none"])
async def test_every_answer_has_an_id_of_its_own(live, path):
    ids = [(await live.http.get(path)).headers["X-Request-Id"] for _ in range(2)]
    assert ids[0] != ids[1]


async def test_a_stream_has_its_id_too(live):
    response = await live.http.post(
        "/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "stream": True},
        headers={"X-Request-Id": "stream-7"},
    )
    assert response.headers["X-Request-Id"] == "stream-7"


@pytest.mark.parametrize("unfit", ["a b", "x" * 200, "ä", '"', "<script>"])
async def test_an_id_that_is_not_fit_for_a_log_is_replaced(live, unfit):
    response = await live.http.get("/health", headers={"X-Request-Id": unfit})
    assert re.fullmatch(r"req-[0-9a-f]{24}", response.headers["X-Request-Id"])


async def test_pages_of_other_sites_are_refused(live):
    response = await live.http.get("/v1/models", headers={"Origin": "https://evil.example"})
    assert (response.status, (await response.json())["error"]["code"]) == (403, "foreign_origin")


async def test_pages_of_this_server_are_served(live):
    assert (await live.http.get("/v1/models", headers={"Origin": live.url})).status == 200


async def test_the_version_is_the_packages(live):
    response = await live.http.get("/version")
    assert (response.status, await response.json()) == (200, {"version": metadata.version("fastswitch")})


async def test_an_icon_is_where_browsers_look_for_one(serve, tenants):
    live = await serve(keys=tenants.keys())
    response = await live.http.get("/favicon.ico")
    assert (response.status, response.content_type) == (200, "image/svg+xml")
