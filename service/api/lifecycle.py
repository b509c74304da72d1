"""How the server is, and how it ends: loading, then ready, then shutting down; hung for a while, or failed for good.

While it loads another application stands in for the real one (`service.api.loading`). A server that has failed serves
nothing more, and one that is hung nothing until its step ends: probes of liveness say so, and whoever restarts servers
does.
"""

import structlog
from aiohttp import web

from service.api.context import DOOR, LIMITS, STREAMS
from service.api.operations.responses import State
from service.api.websocket.sessions import SESSIONS
from service.errors import ShuttingDownError

log = structlog.get_logger(__name__)

GRACE_S = 2.0  # for handlers to tell their clients after the drain time is over

DEAD: frozenset[State] = frozenset({"hung", "failed"})


def state_of(app: web.Application) -> State:
    """The worst that is true of a server that has loaded."""
    streams = app[STREAMS]
    if not streams.healthy:
        return "failed"
    if streams.step_age_s > app[LIMITS].hang_timeout_s:
        return "hung"
    return "shutting_down" if app[DOOR].closed else "ready"


async def drain(app: web.Application, limit_s: float) -> None:
    """Let nobody in, wait for those inside; after ``limit_s`` seconds end their answers with an error.

    The server goes on answering meanwhile: newcomers and probes learn that it is shutting down.
    """
    door = app[DOOR]
    door.close()
    app[SESSIONS].drain()
    log.info("draining", open_requests=door.inside, limit_s=limit_s)
    if not await door.emptied(limit_s):
        log.warning("drain_limit_reached", open_requests=door.inside)
        app[STREAMS].close(ShuttingDownError())
        await door.emptied(GRACE_S)


async def part_when_draining(request: web.Request, response: web.StreamResponse) -> None:
    """Keep no connection once the door is closed: its client finds another server. A signal handler."""
    if request.app[DOOR].closed:
        part(response)


def part(response: web.StreamResponse) -> None:
    """Have the connection closed after this response, whose headers aiohttp has already thought of."""
    if not isinstance(response, web.WebSocketResponse):
        response.force_close()
        response.headers["Connection"] = "close"
