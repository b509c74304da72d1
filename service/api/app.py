"""The aiohttp application: the routes with what lives as long as they do."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web

from service.api.connections import Connections
from service.api.context import (
    CONNECTIONS,
    DOCUMENT,
    DOOR,
    EXECUTOR,
    LIMITS,
    METRICS,
    MODEL,
    STREAMS,
    Limits,
    ServedModel,
)
from service.api.door import Door
from service.api.lifecycle import part_when_draining
from service.api.loop_lag import LoopLag
from service.api.middleware import account, add_request_id, errors_as_json
from service.api.openapi import document
from service.api.routes import OPERATIONS
from service.api.streams import Engine, Streams
from service.metrics import Metrics

# Rendering and tokenising take a core each; more threads would only take cores from the model.
PREPARING_THREADS = 2


def create_app(engine: Engine, model: ServedModel, metrics: Metrics, limits: Limits) -> web.Application:
    """An application that starts ``engine`` when it starts and stops it when it ends."""
    app = web.Application(client_max_size=limits.max_body, middlewares=[account, errors_as_json])
    app[MODEL] = model
    app[LIMITS] = limits
    app[METRICS] = metrics
    app[STREAMS] = Streams(engine, metrics.observe)
    app[DOOR] = Door(limits.max_open_requests)
    app[CONNECTIONS] = Connections()
    app[DOCUMENT] = document(OPERATIONS)
    app.router.add_routes(operation.route() for operation in OPERATIONS)
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
