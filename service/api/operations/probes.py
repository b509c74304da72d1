"""The probes (alive, ready), the metrics and the OpenAPI document."""

from typing import Literal

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from service.api.access.auth import check_metrics_reader
from service.api.context import DOCUMENT, METRICS, STREAMS
from service.api.lifecycle import DEAD, state_of
from service.api.operations.responses import State, Status, Version
from service.api.version import version

log = structlog.get_logger(__name__)


async def health(request: web.Request) -> web.Response:
    """Say whether the server is alive: 503 once the engine has failed, and while the device hangs."""
    state = state_of(request.app)
    if state in DEAD:
        log.error("not_alive", state=state, step_age_s=request.app[STREAMS].step_age_s)
        return _status(state, 503)
    return _status("ok", 200)


async def ready(request: web.Request) -> web.Response:
    """Say whether it is ready for traffic: 503 while loading or shutting down, or when not alive."""
    state = state_of(request.app)
    return _status(state, 200 if state == "ready" else 503)


async def show_metrics(request: web.Request) -> web.Response:
    """Show all metrics in Prometheus' text format; if keys are configured, to an admin's key only."""
    check_metrics_reader(request)
    return await open_metrics(request)


async def open_metrics(request: web.Request) -> web.Response:
    """Show the metrics to every client that reaches the listener."""
    return web.Response(body=request.app[METRICS].exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def openapi(request: web.Request) -> web.Response:
    """Describe all routes as OpenAPI."""
    return web.json_response(request.app[DOCUMENT])


async def show_version(request: web.Request) -> web.Response:
    """Say which version of the server this is."""
    return web.json_response(Version(version=version()))


def _status(status: State | Literal["ok"], code: int) -> web.Response:
    return web.json_response(Status(status=status), status=code)
