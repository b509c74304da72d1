"""Runs the application on a socket until it is told to stop."""

import asyncio
import signal
import socket
from collections.abc import Callable

import structlog
from aiohttp import web

from service.api.context import STREAMS
from service.api.stack_dump import stack_dumps
from service.errors import ConfigError, ShuttingDownError

log = structlog.get_logger(__name__)

GRACE_S = 2.0  # for handlers to tell their clients after the drain time is over
BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """A socket that has its address but does not listen yet. Raises `ConfigError`.

    Taken before the model is loaded, so that a port in use is known at once, while nobody finds a server that is not
    ready.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}") from error
    return listener


def run(app: web.Application, listener: socket.socket, drain_s: float, announce: Callable[[], None]) -> None:
    """Serve until SIGTERM or SIGINT, then give what runs ``drain_s`` seconds; a second signal gives it none.

    ``announce`` is called when requests are taken.
    """
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(_serve(app, listener, drain_s, announce))


def app_runner(app: web.Application, drain_s: float) -> web.AppRunner:
    """Runs ``app`` as it needs: a client's leaving cancels its handler, and logs are the middleware's."""
    return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=drain_s + GRACE_S)


async def _serve(app: web.Application, listener: socket.socket, drain_s: float, announce: Callable[[], None]) -> None:
    runner = app_runner(app, drain_s)
    await runner.setup()
    stop = _on_signals(lambda: _give_up(app))
    loop = asyncio.get_running_loop()
    with stack_dumps(loop):
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
        announce()
        await stop.wait()
        log.info("shutting_down", drain_s=drain_s)
        give_up = loop.call_later(drain_s, _give_up, app)
        await runner.cleanup()
        give_up.cancel()


def _on_signals(again: Callable[[], None]) -> asyncio.Event:
    """An event that the first signal sets; each further one calls ``again``."""
    first = asyncio.Event()

    def received() -> None:
        if first.is_set():
            again()
        first.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, received)
    return first


def _give_up(app: web.Application) -> None:
    app[STREAMS].fail_all(ShuttingDownError("the server is shutting down"))


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed; None is asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not there on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
