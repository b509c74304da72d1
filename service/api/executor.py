"""The threads that render and tokenise, which would hold up the event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from aiohttp import web

from service.api.context import EXECUTOR

# Rendering and tokenising take a core each; more threads would only take cores from the model.
PREPARING_THREADS = 2

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def in_executor(app: web.Application, work: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Return what ``work`` returns, called on one of the threads. Raises what it raises."""
    return await asyncio.get_running_loop().run_in_executor(app[EXECUTOR], work, *arguments)


async def executor_context(app: web.Application) -> AsyncIterator[None]:
    """Start the threads with the application and end them with it."""
    with ThreadPoolExecutor(PREPARING_THREADS, thread_name_prefix="prepare") as executor:
        all_started = threading.Barrier(PREPARING_THREADS)
        for _ in range(PREPARING_THREADS):  # now, rather than at the first moment when all are busy
            executor.submit(all_started.wait)
        app[EXECUTOR] = executor
        yield
