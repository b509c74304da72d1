"""The server's state, and its shutdown: loading, then ready, then shutting down; hung for a while, or failed for good.

While it loads, another application stands in for the real one (`service.api.loading`). A failed server serves nothing
more, and a hung one nothing until its step ends: liveness probes fail then, so that an orchestrator restarts it.
"""

import structlog
from aiohttp import web

from service.api.context import DOOR, LIMITS, STREAMS
from service.api.operations.responses import State
from service.api.websocket.sessions import SESSIONS
from service.errors import ShuttingDownError

log = structlog.get_logger(__name__)

GRACE_S = 2.0  # for handlers to send their errors after the drain time is over

DEAD: frozenset[State] = frozenset({"hung", "failed"})


def state_of(app: web.Application) -> State:
    """Return the state of a server that has loaded, the worst if several hold."""
    streams = app[STREAMS]
    if not streams.healthy:
        return "failed"
    if streams.step_age_s > app[LIMITS].hang_timeout_s:
        return "hung"
    return "shutting_down" if app[DOOR].closed else "ready"


async def drain(app: web.Application, limit_s: float) -> None:
    """Refuse new requests and wait for open ones; after ``limit_s`` seconds end their answers with an error.

    Meanwhile the server goes on answering: new requests and probes learn that it is shutting down.
    """
    door = app[DOOR]
    door.close()
    app[SESSIONS].drain()
    log.info("draining", open_requests=door.inside, limit_s=limit_s)
    if not await door.emptied(limit_s):
        log.warning("drain_limit_reached", open_requests=door.inside)
        app[STREAMS].close(ShuttingDownError())
        await door.emptied(GRACE_S)


async def close_when_draining(request: web.Request, response: web.StreamResponse) -> None:
    """Keep no connection while the server drains, so that its client finds another server. A signal handler."""
    if request.app[DOOR].closed:
        close_after(response)


def close_after(response: web.StreamResponse) -> None:
    """Close the connection after this response, whose headers aiohttp has already prepared."""
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()
        response.headers["Connection"] = "close"
