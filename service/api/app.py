"""The aiohttp application: routes, and what lives as long as they do."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from service.api.connections import Connections
from service.api.context import CONNECTIONS, DOOR, EXECUTOR, LIMITS, METRICS, MODEL, STREAMS, Limits, ServedModel
from service.api.door import Door
from service.api.generate import chat_completions, completions
from service.api.lifecycle import part_when_draining
from service.api.loop_lag import LoopLag
from service.api.middleware import account, add_request_id, errors_as_json
from service.api.operations import health, list_models, metrics, ready, show_model
from service.api.streams import Engine, Streams
from service.api.tokens import detokenize, tokenize
from service.metrics import Metrics

# Rendering and tokenising take a core each; more threads would only take cores from the model.
PREPARING_THREADS = 2

ROUTES = [
    web.post("/v1/chat/completions", chat_completions),
    web.post("/v1/completions", completions),
    web.post("/tokenize", tokenize),
    web.post("/detokenize", detokenize),
    web.get("/v1/models", list_models),
    web.get("/v1/models/{id:.+}", show_model),
    web.get("/health", health),
    web.get("/ready", ready),
    web.get("/metrics", metrics),
]


def create_app(engine: Engine, model: ServedModel, metrics: Metrics, limits: Limits) -> web.Application:
    """An application that starts ``engine`` when it starts and stops it when it ends."""
    app = web.Application(client_max_size=limits.max_body, middlewares=[account, errors_as_json])
    app[MODEL] = model
    app[LIMITS] = limits
    app[METRICS] = metrics
    app[STREAMS] = Streams(engine, metrics.observe)
    app[DOOR] = Door(limits.max_open_requests)
    app[CONNECTIONS] = Connections()
    app.router.add_routes(ROUTES)
    app.on_response_prepare.extend([add_request_id, part_when_draining])
    app.cleanup_ctx.extend([_executor, _engine, _loop_lag])
    return app


async def _executor(app: web.Application) -> AsyncIterator[None]:
    with ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare") as executor:
        app[EXECUTOR] = executor
        yield


async def _engine(app: web.Application) -> AsyncIterator[None]:
    streams = app[STREAMS]
    streams.start()
    yield
    await streams.stop()


async def _loop_lag(app: web.Application) -> AsyncIterator[None]:
    lag = LoopLag(app[METRICS].loop_lagged)
    lag.start()
    yield
    lag.stop()
