"""The application that stands in while the model loads: it is alive, not ready, and asks clients to try again.

The chat page is served already, and waits for the rest.
"""

from typing import NoReturn

from aiohttp import web

from service.api.context import LIMITS, METRICS, Limits
from service.api.lifecycle import close_after
from service.api.middleware import account, add_request_id, errors_as_json
from service.api.operations.responses import Status
from service.api.page.route import add_page
from service.errors import LoadingError
from service.telemetry.metrics import Metrics


def create_loading_app(limits: Limits) -> web.Application:
    """Return an application without a model. Its metrics are not shown; the real application starts its own."""
    app = web.Application(client_max_size=limits.max_body, middlewares=[account, errors_as_json])
    app[LIMITS] = limits
    app[METRICS] = Metrics()
    app.router.add_get("/health", _health)
    app.router.add_get("/ready", _ready)
    add_page(app)
    app.router.add_route("*", "/{path:.*}", _refuse)
    app.on_response_prepare.extend([add_request_id, _close])
    return app


async def _health(request: web.Request) -> web.Response:
    return web.json_response(Status(status="ok"))


async def _ready(request: web.Request) -> web.Response:
    return web.json_response(Status(status="loading"), status=503)


async def _refuse(request: web.Request) -> NoReturn:
    raise LoadingError("the model is being loaded")


async def _close(request: web.Request, response: web.StreamResponse) -> None:
    """Close the connection, which would otherwise stay with this application."""
    close_after(response)
