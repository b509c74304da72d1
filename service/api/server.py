"""Runs the application on a socket, from before its model is loaded until a signal stops it.

    signal          while loading          first after that          second
    SIGTERM/SIGINT  exit at once           drain, then exit 0        exit at once

*At once* means with exit code 128 plus the signal's number, as shells have it; whatever is under way is lost.
"""

import asyncio
import concurrent.futures
import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import NoReturn

import structlog
from aiohttp import web

from service.api.lifecycle import GRACE_S, drain
from service.api.operations.stack_dump import stack_dumps
from service.errors import ConfigError

log = structlog.get_logger(__name__)

BACKLOG = 1024


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Clients that connect before `run` wait. Raises `ConfigError`."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host} port {port}: {error.strerror}{_way_out(error)}") from error
    return listener


def _way_out(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "; stop what listens there, or choose another with --port (0: any free one)"
        case errno.EACCES:
            return "; ports below 1024 are for root: choose another with --port"
        case errno.EADDRNOTAVAIL | socket.EAI_NONAME:
            return "; --host is an address of this machine, 127.0.0.1 if only it shall reach the server"
    return ""


def run(
    loading: web.Application,
    load: Callable[[], web.Application],
    listener: socket.socket,
    drain_s: float,
    announce: Callable[[web.Application], None],
    metrics_listener: socket.socket | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT: ``loading`` until ``load``, in a thread of its own, returns the application.

    ``announce`` is called when the application takes requests. Requests that run when the server is stopped get
    ``drain_s`` seconds. ``loading`` also answers on ``metrics_listener``, which the application itself serves later.
    Raises what ``load`` raises.
    """
    with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
        runner.run(serve(loading, load, listener, drain_s, announce, metrics_listener))


def app_runner(app: web.Application) -> web.AppRunner:
    """Return a runner that cancels the handler of a client that leaves; the middleware writes the access log."""
    return web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=GRACE_S)


async def serve(
    loading: web.Application,
    load: Callable[[], web.Application],
    listener: socket.socket,
    drain_s: float,
    announce: Callable[[web.Application], None],
    metrics_listener: socket.socket | None = None,
) -> None:
    """Do what `run` does, on a running loop of the main thread."""
    _on_signals(_leave)
    with listener, stack_dumps(asyncio.get_running_loop()):
        stand_in = await _listen(loading, *(each.dup() for each in (listener, metrics_listener) if each is not None))
        try:
            app = await _in_daemon(load)
            runner = await _listen(app, listener)  # both listen for a moment, so no client is refused
        finally:
            await stand_in.cleanup()
        stop = _stop_at_signal()
        announce(app)
        await stop.wait()
        await drain(app, drain_s)
        await runner.cleanup()


async def _listen(app: web.Application, *listeners: socket.socket) -> web.AppRunner:
    runner = app_runner(app)
    await runner.setup()
    for listener in listeners:
        await web.SockSite(runner, listener, backlog=BACKLOG).start()
    return runner


def _in_daemon(load: Callable[[], web.Application]) -> asyncio.Future[web.Application]:
    """Run ``load`` in a thread that does not keep the process alive."""
    loaded: concurrent.futures.Future[web.Application] = concurrent.futures.Future()

    def work() -> None:
        try:
            loaded.set_result(load())
        except BaseException as error:
            loaded.set_exception(error)

    threading.Thread(target=work, name="load", daemon=True).start()
    return asyncio.wrap_future(loaded)


def _stop_at_signal() -> asyncio.Event:
    """Return an event that the first signal sets; the second ends the process."""
    stop = asyncio.Event()

    def first(number: int) -> None:
        stop.set()
        _on_signals(_leave)

    _on_signals(first)
    return stop


def _on_signals(react: Callable[[int], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, react, number)


def _leave(number: int) -> NoReturn:
    """End the process now, without waiting for threads, since any may hang."""
    log.warning("leaving_at_once", signal=signal.Signals(number).name)
    logging.shutdown()
    sys.stdout.flush()
    os._exit(128 + number)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's loop if it is installed; None means asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - not available on every platform
    except ImportError:
        return None
    return uvloop.new_event_loop
