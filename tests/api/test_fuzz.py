"""Whatever fits the served OpenAPI document, and much that does not, gets an answer that the document describes."""

import asyncio
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from aiohttp import web
from hypothesis import settings
from schemathesis import Case, HookContext

from service.api.context import DOOR, METRICS
from service.api.executor import PREPARING_THREADS
from service.api.openapi import document
from service.api.routes import OPERATIONS
from service.api.server import app_runner
from service.engine import Engine
from service.execution.kv import KVPools
from service.execution.models.loading import load_model
from service.execution.runner import CPURunner

positive_data_acceptance = schemathesis.checks.positive_data_acceptance
SCHEMA = schemathesis.openapi.from_dict(document(OPERATIONS, with_keys=False))

EXAMPLES = settings().max_examples  # of each route with a body, at least: with the full profile 4000 in all
WITH_BODY = {operation.path for operation in OPERATIONS if operation.body is not None}
OWN_THREADS = 1 + 2 + PREPARING_THREADS  # the loop's, the engine's and the device's, those that prepare
HANG_S = 60.0


class Served:
    """A server on a loop in a thread, for clients that block."""

    def __init__(self, app: web.Application, engine: Engine) -> None:
        self.app = app
        self.engine = engine
        self._threads = threading.active_count()
        self.statuses: dict[str, Counter[int]] = defaultdict(Counter)  # by path
        self._url: Future[str] = Future()
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> "Served":
        self._thread.start()
        self.url = self._url.result()
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    def check(self) -> None:
        """Check that every route that was tried also succeeded once, and that nothing is left behind."""
        assert [path for path, statuses in self.statuses.items() if 200 not in statuses] == []
        assert [path for path in self.statuses if path in WITH_BODY and self.statuses[path].total() < EXAMPLES] == []
        left = ("num_requests_running", "num_requests_waiting", "num_requests_preempted", "idle_sessions")
        samples = {name: self._sample(name) for name in (*left, "kv_blocks_used")}
        assert samples == dict.fromkeys(samples, 0)
        assert self.app[DOOR].inside == 0
        self.engine._core.check()
        assert threading.active_count() <= self._threads + OWN_THREADS

    def _sample(self, name: str) -> float | None:
        return self.app[METRICS].registry.get_sample_value(f"fastswitch_{name}")

    async def _serve(self) -> None:
        runner = app_runner(self.app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self._url.set_result(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await self._over.wait()
        await runner.cleanup()


@pytest.fixture(scope="module")
def served(build: Any, tiny_model_path: Path) -> Iterator[Served]:
    """The tiny model itself; answers are short, since the context is, and no session outlives its request."""
    loaded = load_model(tiny_model_path)
    runner = CPURunner(
        loaded.config, loaded.weights, pools=KVPools.plain(loaded.config, 256), num_slots=128, max_batched_tokens=256
    )
    runner.warm_up()  # compiling takes longer than a request may
    sizes = {"device_blocks": 256, "max_num_seqs": 128, "max_idle_sessions": 0}
    app, engine, _ = build(runner, core=sizes, model={"max_model_len": 32})
    with Served(app, engine) as served:
        yield served
        served.check()


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        yield session


@SCHEMA.hook
def map_body(context: HookContext, body: Any) -> Any:
    """Replace most names and token ids by the model's own; at random, nearly all would give 400 or 404."""
    if not isinstance(body, dict):
        return body
    own = {key: _own_tokens(value) if key in ("prompt", "tokens") else value for key, value in body.items()}
    return {**own, "model": "tiny"} if isinstance(body.get("model"), str) and len(body["model"]) > 1 else own


@SCHEMA.hook
def map_path_parameters(context: HookContext, path_parameters: Any) -> Any:
    """Do the same in paths."""
    if path_parameters and len(str(path_parameters.get("id"))) == 1:
        return {"id": "tiny"}
    return path_parameters


def _own_tokens(value: Any) -> Any:
    if isinstance(value, list):
        return [_own_tokens(each) for each in value]
    return value % 384 if type(value) is int and value % 7 else value


def _leave_a_record(served: Served, http: requests.Session) -> None:
    """Send a request whose id the fuzzer asks for."""
    body = {"prompt": "x", "max_tokens": 1}
    http.post(f"{served.url}/v1/completions", json=body, headers={"X-Request-Id": "tiny"}).raise_for_status()


@SCHEMA.parametrize()
def test_every_answer_is_described(served: Served, http: requests.Session, case: Case) -> None:
    if case.path == "/debug/requests/{id}":
        _leave_a_record(served, http)
    response = case.call(base_url=served.url, session=http, timeout=HANG_S)
    served.statuses[case.path][response.status_code] += 1
    # What this model cannot do, such as long texts, no schema tells.
    case.validate_response(response, excluded_checks=[positive_data_acceptance])
