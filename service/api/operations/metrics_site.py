"""Metrics on a listener of their own, for scrapers without a key, which see no other route."""

import socket
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from service.api.context import METRICS
from service.api.operations.probes import open_metrics
from service.telemetry.metrics import Metrics


def metrics_site(listener: socket.socket, metrics: Metrics) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return a clean-up context of the main application that serves ``/metrics`` on ``listener`` while it runs."""

    async def serve(_: web.Application) -> AsyncIterator[None]:
        site = web.Application()
        site[METRICS] = metrics
        site.router.add_get("/metrics", open_metrics)
        runner = web.AppRunner(site, access_log=None)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        yield
        await runner.cleanup()

    return serve
