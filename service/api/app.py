"""The aiohttp application: its routes, and the objects that live as long as it does."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from aiohttp import web

from service.api.access.accounts import Accounts
from service.api.access.auth import identify
from service.api.access.door import Door
from service.api.access.keys import Keys
from service.api.access.origins import let_allowed_pages_read
from service.api.access.sharing import Sharing
from service.api.context import (
    ACCOUNTS,
    DOCUMENT,
    DOOR,
    HISTORY,
    KEYS,
    LIMITS,
    METRICS,
    MODEL,
    SERVICES,
    SHARING,
    STREAMS,
    WAITING_LINE,
    Limits,
    ServedModel,
)
from service.api.executor import executor_context
from service.api.lifecycle import close_when_draining
from service.api.middleware import account, add_request_id, errors_as_json
from service.api.openapi import document
from service.api.operations.history import History
from service.api.operations.loop_lag import LoopLag
from service.api.operations.metrics_site import metrics_site
from service.api.operations.service_history import ServiceHistory
from service.api.page.route import add_page
from service.api.routes import METRICS_ROUTE, ROUTES
from service.api.streams import EnginePort, Streams
from service.api.waiting_line import WaitingLine
from service.api.warm_prompts import WarmPrompt, compute_warm_prompts
from service.api.websocket.route import chat_stream
from service.api.websocket.sessions import SESSIONS, ChatSessions
from service.core.messages.events import Event
from service.core.state.service_rate import bounded_retry_s
from service.engine import Turn
from service.telemetry.metrics import Metrics
from service.telemetry.trace_recorder import TraceRecorder


def create_app(
    engine: EnginePort,
    model: ServedModel,
    metrics: Metrics,
    limits: Limits,
    keys: Keys | None = None,
    metrics_listener: socket.socket | None = None,
    recorder: TraceRecorder | None = None,
    warm_prompts: Sequence[WarmPrompt] = (),
) -> web.Application:
    """Return an application that starts ``engine`` when it starts, and stops it and closes ``recorder`` when it ends.

    ``keys``: None means that no key is required. Metrics move to ``metrics_listener`` if there is one. The start ends
    when ``warm_prompts`` are computed.
    """
    app = web.Application(client_max_size=limits.max_body, middlewares=[account, errors_as_json, identify])
    app[MODEL] = model
    app[LIMITS] = limits
    app[METRICS] = metrics
    app[KEYS] = keys or Keys()
    app[SHARING] = Sharing(limits.prefix_sharing)
    app[ACCOUNTS] = Accounts(metrics.tenants)
    app[HISTORY] = History()
    app[SERVICES] = ServiceHistory()
    app[WAITING_LINE] = WaitingLine()
    app[STREAMS] = _streams(engine, app, recorder)
    app[SESSIONS] = ChatSessions(app[STREAMS], app[ACCOUNTS], limits, metrics)
    # As many requests end as start when the server is full.
    app[DOOR] = Door(
        limits.max_open_requests, app[ACCOUNTS], lambda: bounded_retry_s(app[WAITING_LINE].seconds_per_start)
    )
    operations = ROUTES if metrics_listener is not None else (*ROUTES, METRICS_ROUTE)
    app[DOCUMENT] = document(operations, app[KEYS].required)
    app.router.add_routes(operation.route() for operation in operations)
    app.router.add_get("/v1/chat/stream", chat_stream, allow_head=False)  # docs/wire.md; OpenAPI cannot describe it
    add_page(app)
    app.on_response_prepare.extend([add_request_id, let_allowed_pages_read, close_when_draining])
    if metrics_listener is not None:
        app.cleanup_ctx.append(metrics_site(metrics_listener, metrics))
    if recorder is not None:
        app.on_cleanup.append(_closing(recorder))
    app.cleanup_ctx.extend([executor_context, _engine, _loop_lag])
    app.on_startup.append(partial(compute_warm_prompts, warm_prompts))  # after the contexts, so that the engine runs
    return app


def _streams(engine: EnginePort, app: web.Application, recorder: TraceRecorder | None) -> Streams:
    """Return streams whose turns and events reach metrics, accounts, histories, waiting line and recorder."""
    metrics, accounts, services = app[METRICS], app[ACCOUNTS], app[SERVICES]
    writers: list[History | WaitingLine | TraceRecorder] = [app[HISTORY], app[WAITING_LINE]]
    if recorder is not None:
        writers.append(recorder)

    def observe(event: Event) -> None:
        metrics.observe(event)
        accounts.observe(event)
        services.observe(event)
        for writer in writers:
            writer.observe(event)

    def admit(turns: Sequence[Turn]) -> None:
        accounts.admit(turns)  # first: it may refuse them
        for writer in writers:
            writer.admit(turns)

    return Streams(engine, observe, admit)


def _closing(recorder: TraceRecorder) -> Callable[[web.Application], Awaitable[None]]:
    async def close(_: web.Application) -> None:
        await asyncio.to_thread(recorder.close)

    return close


async def _engine(app: web.Application) -> AsyncIterator[None]:
    streams = app[STREAMS]
    streams.start()
    yield
    await app[SESSIONS].stop()
    await streams.stop()


async def _loop_lag(app: web.Application) -> AsyncIterator[None]:
    lag = LoopLag(app[METRICS].loop_lagged)
    lag.start()
    yield
    lag.stop()
