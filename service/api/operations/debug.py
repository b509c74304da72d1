"""The debug views: ids and numbers of the server's state, never text and never tokens."""

import asyncio
import time
from dataclasses import asdict
from typing import Any

from aiohttp import web

from service.api.access.auth import check_admin
from service.api.context import ACCOUNTS, DOOR, HISTORY, MODEL, SERVICES, STREAMS
from service.api.lifecycle import state_of
from service.api.operations.service_history import WINDOW_S
from service.api.operations.tenant_views import tenant_views
from service.core.messages.events import Snapshot
from service.errors import NotFoundError

SILENCE_S = 5.0  # of the engine, after which the view leaves its part out


async def debug_state(request: web.Request) -> web.Response:
    """Show which requests run, wait and are preempted, since when and why; sessions, prefixes, pools, tenants."""
    check_admin(request)
    app = request.app
    snapshot = await _snapshot(app)
    requests = None if snapshot is None else snapshot.requests
    tenants = tenant_views(app[ACCOUNTS].views(), requests, app[SERVICES].totals())
    return web.json_response(
        {
            "at": time.time(),
            "status": state_of(app),
            "model": app[MODEL].name,
            "device": asdict(app[MODEL].device),
            "open_requests": app[DOOR].inside,
            "max_open_requests": app[DOOR].limit,
            "core": None if snapshot is None else _view(snapshot),
            "service_window_s": WINDOW_S,
            "tenants": [asdict(view) for view in tenants],
        }
    )


async def debug_request(request: web.Request) -> web.Response:
    """Show what happened to a request, by the id of its answer or its X-Request-Id."""
    check_admin(request)
    found = request.app[HISTORY].find(request.match_info["id"])
    if not found:
        raise NotFoundError("no request of this id is among the last ones")
    return web.json_response({"requests": found})


async def _snapshot(app: web.Application) -> Snapshot | None:
    """Return core's part of the view, or None if the engine does not answer, which says something too."""
    if not app[STREAMS].healthy:
        return None
    try:
        async with asyncio.timeout(SILENCE_S):
            return await app[STREAMS].snapshot()
    except TimeoutError:
        return None


def _view(snapshot: Snapshot) -> dict[str, Any]:
    view = asdict(snapshot)
    del view["number"]
    return view
