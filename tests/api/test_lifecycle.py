"""Loading, ready, draining, hung: what probes, new requests and open ones see."""

import asyncio
import os
import signal
import threading

import aiohttp
import pytest

from service.api import server
from service.api.context import DOOR, METRICS, STREAMS
from service.api.lifecycle import drain
from service.api.loading import create_loading_app
from service.api.operations.metrics_site import metrics_site
from service.errors import ModelLoadError
from tests.settings import make_limits


async def status(http, path="/ready"):
    response = await http.get(path)
    return response.status, (await response.json())["status"]


@pytest.fixture
def listener():
    with server.bind("127.0.0.1", 0) as bound:
        yield bound


class Loading:
    """A load that takes until it is released."""

    def __init__(self, build) -> None:
        self.app, *_ = build()
        self.release = threading.Event()
        self.served = asyncio.Event()

    def load(self):
        self.release.wait()
        return self.app

    def serve(self, listener, metrics_listener=None):
        app = create_loading_app(make_limits())
        return server.serve(app, self.load, listener, 60, lambda app: self.served.set(), metrics_listener)


async def test_a_server_answers_before_its_model_is_there_and_ends_on_a_signal(build, listener):
    loading = Loading(build)
    serving = asyncio.create_task(loading.serve(listener))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.getsockname()[1]}") as http:
        assert await status(http, "/health") == (200, "ok")
        assert await status(http) == (503, "loading")
        loading.release.set()
        await loading.served.wait()
        assert await status(http) == (200, "ready")
        os.kill(os.getpid(), signal.SIGTERM)
        await serving


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/metrics"), ("PUT", "/")]
)
async def test_while_loading_all_else_gets_503(build, listener, method, path):
    loading = Loading(build)
    serving = asyncio.create_task(loading.serve(listener))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.getsockname()[1]}") as http:
        response = await http.request(method, path, data=b"x" * 100_000, headers={"X-Request-Id": "mine-1"})
        error = (await response.json())["error"]
        assert (response.status, error["code"], error["request_id"]) == (503, "loading", "mine-1")
        assert int(response.headers["Retry-After"]) >= 1
        assert response.headers["Connection"] == "close"
    loading.release.set()
    await loading.served.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


async def test_the_chat_page_is_there_while_the_model_loads(build, listener):
    loading = Loading(build)
    serving = asyncio.create_task(loading.serve(listener))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.getsockname()[1]}") as http:
        response = await http.get("/")
        assert (response.status, response.content_type) == (200, "text/html")
    loading.release.set()
    await loading.served.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await serving


async def test_scrapers_on_a_port_of_their_own_get_503_while_it_loads(build, listener):
    loading = Loading(build)
    with server.bind("127.0.0.1", 0) as metrics_listener:
        loading.app.cleanup_ctx.append(metrics_site(metrics_listener, loading.app[METRICS]))
        serving = asyncio.create_task(loading.serve(listener, metrics_listener))
        async with aiohttp.ClientSession(f"http://127.0.0.1:{metrics_listener.getsockname()[1]}") as http:
            response = await http.get("/metrics")
            assert (response.status, response.headers["Connection"]) == (503, "close")
            loading.release.set()
            await loading.served.wait()
            assert (await http.get("/metrics")).status == 200
        os.kill(os.getpid(), signal.SIGTERM)
        await serving


async def test_a_model_that_cannot_be_loaded_ends_the_server(listener):
    def load():
        raise ModelLoadError("no such file")

    with pytest.raises(ModelLoadError, match="no such file"):
        await server.serve(create_loading_app(make_limits()), load, listener, 60, lambda app: None)
    assert listener.fileno() == -1


async def test_a_draining_server_lets_running_answers_finish_and_turns_newcomers_away(live):
    live.runner.hold()
    running = asyncio.create_task(live.chat(max_tokens=5))
    await live.until(lambda _: live.app[DOOR].inside == 1)
    draining = asyncio.create_task(drain(live.app, 60))
    refused = await live.chat()
    assert (refused.status, (await refused.json())["error"]["code"]) == (503, "shutting_down")
    assert int(refused.headers["Retry-After"]) >= 1
    assert refused.headers["Connection"] == "close"
    assert await status(live.http) == (503, "shutting_down")
    assert await status(live.http, "/health") == (200, "ok")
    live.runner.release()
    assert (await (await running).json())["usage"]["completion_tokens"] == 5
    await draining


async def test_at_the_limit_streams_end_with_an_error_event_and_plain_answers_with_503(serve):
    live = await serve(limits={"keep_alive_s": 0.01})  # so that the stream begins although it has nothing to say
    live.runner.hold()
    stream = await live.chat(stream=True)
    plain = asyncio.create_task(live.chat())
    await live.until(lambda _: live.app[DOOR].inside == 2)
    await drain(live.app, 0)
    (*_, last) = await live.events(stream)
    assert (last["error"]["code"], (await plain).status) == ("shutting_down", 503)
    assert live.app[DOOR].inside == 0


async def test_a_step_that_takes_too_long_is_no_life(serve):
    live = await serve(limits={"hang_timeout_s": 0.001})
    live.runner.hold()
    answer = asyncio.create_task(live.chat())
    while await status(live.http) != (503, "hung"):
        assert not answer.done()
    assert await status(live.http, "/health") == (503, "hung")
    live.runner.release()
    assert (await answer).status == 200
    assert await status(live.http, "/health") == (200, "ok")


async def test_a_step_that_takes_its_time_is_alive(live):
    live.runner.hold()
    answer = asyncio.create_task(live.chat())
    await live.until(lambda _: live.app[STREAMS].step_age_s > 0)
    assert await status(live.http, "/health") == (200, "ok")
    live.runner.release()
    await answer


async def test_logits_that_are_not_finite_end_their_request_alone(poisoned):
    poisoned.runner.inner.bad_seeds.add(7)
    poisoned.runner.hold()
    other = asyncio.create_task(poisoned.chat(max_tokens=20, seed=1))
    failing = asyncio.create_task(poisoned.chat(seed=7))
    await poisoned.until(lambda _: poisoned.app[DOOR].inside == 2)
    poisoned.runner.release()
    failed = await failing
    error = (await failed.json())["error"]
    assert (failed.status, error["code"]) == (500, "internal_error")
    assert error["request_id"] == failed.headers["X-Request-Id"]
    assert (await (await other).json())["usage"]["completion_tokens"] == 20
    ended = {reason: finished(poisoned, reason) for reason in ("error", "length")}
    assert ended == {"error": 1, "length": 1}


async def test_a_stream_whose_logits_go_bad_ends_with_an_error_event(poisoned):
    response = await poisoned.chat(seed=7, stream=True, max_tokens=90_000)
    await response.content.readline()
    poisoned.runner.inner.bad_seeds.add(7)
    (*_, last) = await poisoned.events(response)
    assert last["error"]["code"] == "internal_error"
    assert last["error"]["request_id"] == response.headers["X-Request-Id"]
    gauges = await poisoned.until(lambda gauges: gauges["num_requests_running"] == 0)
    assert gauges["kv_blocks_used"] == 0


def finished(live, reason: str) -> float | None:
    return live.metrics.registry.get_sample_value("fastswitch_request_success_total", {"finished_reason": reason})
