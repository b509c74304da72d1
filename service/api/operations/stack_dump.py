"""Stack dumps at SIGUSR1, for a server that is stuck: `kill -USR1 PID`.

All threads' stacks go to stderr from C, even while Python is blocked; then, if the event loop is alive, each asyncio
task's stack goes to the log. They hold files, lines and functions, but no values.
"""

import asyncio
import faulthandler
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog

log = structlog.get_logger(__name__)


@contextmanager
def stack_dumps(loop: asyncio.AbstractEventLoop, file: TextIO | None = None) -> Iterator[None]:
    """Dump at SIGUSR1 during the block. Main thread only. ``file``, stderr if None, must have a descriptor."""
    # The loop's handler comes first, because faulthandler passes the signal on to the handler before it.
    loop.add_signal_handler(signal.SIGUSR1, log_tasks, loop)
    faulthandler.register(signal.SIGUSR1, file=file or sys.stderr, all_threads=True, chain=True)
    try:
        yield
    finally:
        faulthandler.unregister(signal.SIGUSR1)
        loop.remove_signal_handler(signal.SIGUSR1)


def log_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Log one line for each task that has not ended: where it waits, outermost frame first."""
    for task in asyncio.all_tasks(loop):
        frames = [f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}" for frame in task.get_stack()]
        log.warning("task", task=task.get_name(), frames=frames)
