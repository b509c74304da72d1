"""The whole service on a real socket, over the simulated data plane: everything but the arithmetic."""

import asyncio
import io
import json
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
import structlog
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from allocator import Extent
from service.api.access.key_ring import digest, new_key
from service.api.access.keys import Keys
from service.api.app import create_app
from service.api.context import METRICS, ServedModel
from service.api.server import app_runner
from service.api.warm_prompts import read_warm_prompt
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.plan import Drawn, StepPlan, StepResult
from service.core.messages.ports import Copier, DirectRunner, Runner
from service.core.messages.sampling import TokenLogprobs
from service.engine import Engine, Turn
from service.execution.models.chat_template import ChatTemplate
from service.execution.models.text import TextStage
from service.execution.models.tokenizer import Tokenizer, read_tokenizer
from service.execution.serving_device import ServingDevice
from service.simulation.runner import SimulatedRunner
from service.telemetry.logs import configure_logs
from service.telemetry.metrics import Metrics
from tests.settings import core_settings, make_limits, make_policy

T = TypeVar("T")

PATIENCE_S = 120  # inside of tests: their own time-out would end some task of the server's
VOCAB_SIZE = 384
MODEL = "tiny"
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class HeldRunner(DirectRunner):
    """A data plane that stands still while it is held."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self._go = threading.Event()
        self._go.set()

    def hold(self) -> None:
        self._go.clear()

    def release(self) -> None:
        self._go.set()

    def run(self, plan: StepPlan) -> StepResult:
        self._go.wait()
        return self.inner.run(plan)

    def poison(self, extents: Sequence[Extent]) -> None:
        self.inner.poison(extents)


class SteppedRunner(DirectRunner):
    """A simulated data plane that takes as many steps as it is allowed."""

    def __init__(self) -> None:
        self._inner = SimulatedRunner(VOCAB_SIZE)
        self._allowed = threading.Semaphore(0)

    def allow(self, steps: int = 1_000_000) -> None:
        self._allowed.release(steps)

    async def until(self, awaited: Coroutine[Any, Any, T]) -> T:
        """Allow steps, one after the other, until something has happened. Return its result."""
        task = asyncio.create_task(awaited)
        while not task.done():
            self.allow(1)
            await asyncio.wait([task], timeout=0.001)
        return task.result()

    def run(self, plan: StepPlan) -> StepResult:
        self._allowed.acquire()
        return self._inner.run(plan)


class BrokenRunner(DirectRunner):
    """A data plane whose every step fails."""

    def __init__(self, text: str) -> None:
        self._text = text

    def run(self, plan: StepPlan) -> StepResult:
        raise RuntimeError(self._text)


class PoisonedRunner(DirectRunner):
    """A data plane whose logits are not finite for requests of some seeds."""

    def __init__(self) -> None:
        self._inner = SimulatedRunner(VOCAB_SIZE)
        self._seeds: dict[int, int] = {}
        self.bad_seeds: set[int] = set()

    def run(self, plan: StepPlan) -> StepResult:
        for opening in plan.opened:
            self._seeds[opening.slot] = opening.sampling_params.seed
        result = self._inner.run(plan)
        drawn = [replace(token, invalid=self._seeds[token.slot] in self.bad_seeds) for token in result.drawn]
        return replace(result, drawn=drawn)


class TalkativeRunner(DirectRunner):
    """A data plane that draws one token for ever, with log-probabilities of kilobytes per token."""

    def run(self, plan: StepPlan) -> StepResult:
        logprobs = TokenLogprobs(-1.0, tuple((token, -2.0) for token in range(100, 120)))
        drawn = [Drawn(row.slot, 65, logprobs) for row in plan.rows if row.draws_token]
        return StepResult(plan.number, drawn, 0.0)


@dataclass(frozen=True)
class Live:
    """A server that answers, and a client for it."""

    url: str
    http: aiohttp.ClientSession
    app: web.Application
    engine: Engine
    runner: HeldRunner
    metrics: Metrics

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    async def chat(self, content: str = "Hi there", **fields: Any) -> aiohttp.ClientResponse:
        """POST a one-message conversation."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
        return await self.http.post("/v1/chat/completions", json=body)

    async def complete(self, prompt: Any = "Once upon a time", **fields: Any) -> aiohttp.ClientResponse:
        """POST bare prompts."""
        return await self.http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 8, **fields})

    @staticmethod
    async def events(response: aiohttp.ClientResponse) -> list[Any]:
        """The payloads of a stream, its end mark included."""
        data = [
            line.decode().removeprefix("data: ").rstrip("\n") async for line in response.content if line[:1] == b"d"
        ]
        return [payload if payload == "[DONE]" else json.loads(payload) for payload in data]

    async def gauges(self) -> dict[str, float]:
        """Samples without labels of /metrics, by name without prefix."""
        async with self.http.get("/metrics") as response:
            families = text_string_to_metric_families(await response.text())
            samples = [sample for family in families for sample in family.samples if not sample.labels]
        return {sample.name.removeprefix("fastswitch_"): sample.value for sample in samples}

    async def until(self, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
        """Wait for a state of the metrics."""
        async with asyncio.timeout(PATIENCE_S):
            gauges = await self.gauges()
            while not holds(gauges):
                gauges = await self.gauges()
        return gauges


class Tenants:
    """Two tenants and an operator, and requests in their names. ``key``: each one's, by name."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.key = {name: new_key() for name in ("alice", "bob", "ops")}

    def keys(self, tables: str = "", names: Sequence[str] = ("alice", "bob", "ops")) -> Keys:
        """Write the file, with ``tables`` and an entry for each of ``names``, and return its keys."""
        self.write(tables, names)
        return Keys(self.file)

    def write(self, tables: str = "", names: Sequence[str] = ("alice", "bob", "ops")) -> None:
        """Write the file anew."""
        entries = [f'[[keys]]\ntenant = "{name}"\nsha256 = "{digest(self.key[name])}"\n' for name in names]
        self.file.write_text("[tenants.ops]\nadmin = true\n" + tables + "".join(entries))

    def headers(self, name: str) -> dict[str, str]:
        """Return a key in the header that OpenAI's clients send."""
        return {"Authorization": f"Bearer {self.key[name]}"}

    async def chat(self, live: Live, name: str, content: str = "Hi there", **fields: Any) -> aiohttp.ClientResponse:
        """POST a one-message conversation, with a tenant's key."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": 8, **fields}
        return await live.http.post("/v1/chat/completions", json=body, headers=self.headers(name))

    async def get(self, live: Live, path: str, name: str = "ops") -> Any:
        """The JSON of a view, by default as the operator sees it."""
        async with live.http.get(path, headers=self.headers(name)) as response:
            return await response.json()

    async def metrics(self, live: Live) -> dict[tuple[str, ...], float]:
        """Tenants' samples of /metrics by name without prefix and label values."""
        async with live.http.get("/metrics", headers=self.headers("ops")) as response:
            families = text_string_to_metric_families(await response.text())
            samples = [s for family in families for s in family.samples if s.name.startswith("fastswitch_tenant_")]
        return {(s.name.removeprefix("fastswitch_tenant_"), *s.labels.values()): s.value for s in samples}


Serve = Callable[..., Awaitable[Live]]


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """The server's log; the test runner's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    configure_logs("debug", written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def tenants(tmp_path: Path) -> Tenants:
    return Tenants(tmp_path / "keys.toml")


@pytest.fixture(autouse=True)
def buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enlarge the streams' buffers, so that a pause of this machine, while the model goes on, loses nothing."""
    monkeypatch.setattr("service.api.streams.BUFFERED_OUTPUTS", 1 << 20)


@pytest.fixture(scope="session")
def tokenizer(tiny_model_path: Path) -> Tokenizer:
    return read_tokenizer(tiny_model_path / "tokenizer.json")


def served_model(**fields: Any) -> ServedModel:
    """The simulated model; its answers never end by themselves."""
    values: dict[str, Any] = {
        "name": MODEL,
        "max_model_len": 100_000,
        "vocab_size": VOCAB_SIZE,
        "stop_tokens": frozenset(),
        "chat_template": ChatTemplate(CHATML),
        "longest_token_bytes": 32,
        "created": 1_700_000_000,
        "device": ServingDevice("cpu", "simulated", "float32"),
        **fields,
    }
    return ServedModel(**values)


Build = Callable[..., tuple[web.Application, Engine, HeldRunner]]


@pytest.fixture(scope="session")
def build(tokenizer: Tokenizer) -> Build:
    """Makes applications; ``core`` sets `CoreSettings`, ``limits`` `Limits`, ``model`` `ServedModel`."""

    def build_app(
        data_plane: Runner | None = None,
        core: dict[str, Any] | None = None,
        limits: dict[str, Any] | None = None,
        model: dict[str, Any] | None = None,
        keys: Keys | None = None,
        policy: str = "fcfs",
        copier: Copier | None = None,
        system_prompts: Sequence[Path] = (),
    ) -> tuple[web.Application, Engine, HeldRunner]:
        sizes = core_settings(**{"device_blocks": 100_000, "max_num_seqs": 16, **(core or {})})
        held = HeldRunner(data_plane or SimulatedRunner(VOCAB_SIZE))
        engine = Engine(
            Core(sizes, make_policy(policy)),
            held,
            TextStage(tokenizer),
            copier,
            check_every_step=True,
        )
        served = served_model(**{"tokenizer": tokenizer, "capacity_tokens": sizes.device_blocks * 16, **(model or {})})
        warm = [read_warm_prompt(path, served) for path in system_prompts]
        metrics, bounds = Metrics(served.block_bytes), make_limits(**(limits or {}))
        app = create_app(engine, served, metrics, bounds, keys, warm_prompts=warm)
        return app, engine, held

    return build_app


@pytest.fixture
async def serve(build: Build) -> AsyncIterator[Serve]:
    """Starts servers of what `build` makes.

    With ``keys`` the client has none of its own: each request brings one in its headers.
    """
    running: list[tuple[Live, web.AppRunner]] = []

    async def start(*arguments: Any, **options: Any) -> Live:
        app, engine, held = build(*arguments, **options)
        runner = app_runner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        live = Live(url, aiohttp.ClientSession(url), app, engine, held, app[METRICS])
        running.append((live, runner))
        return live

    yield start
    for live, runner in running:
        live.runner.release()
        await live.http.close()
        await runner.cleanup()


@pytest.fixture
def stepped() -> Iterator[SteppedRunner]:
    """A data plane for `serve`."""
    runner = SteppedRunner()
    yield runner
    runner.allow()


Watch = Callable[..., list[Submit]]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Returns the list of all turns that an engine is given from now on."""

    def start(engine) -> list[Submit]:
        submits: list[Submit] = []
        post = engine.post

        def noting(item) -> None:
            if isinstance(item, Turn):
                submits.append(item.submit)
            post(item)

        monkeypatch.setattr(engine, "post", noting)
        return submits

    return start


@pytest.fixture
async def talkative(serve: Serve) -> Serve:
    """Starts servers whose answers are large."""

    async def start(**options: Any) -> Live:
        return await serve(TalkativeRunner(), **options)

    return start


@pytest.fixture
async def poisoned(serve: Serve) -> Live:
    """A server whose model fails the requests whose seeds are ``runner.inner.bad_seeds``."""
    return await serve(PoisonedRunner())


@pytest.fixture
async def broken(serve: Serve) -> Serve:
    """Starts servers whose every step fails with the given text."""

    async def start(text: str = "broken", **options: Any) -> Live:
        return await serve(BrokenRunner(text), **options)

    return start


@pytest.fixture
async def live(serve: Serve) -> Live:
    """A server with room for everything."""
    return await serve()
