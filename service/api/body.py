"""Takes a request's body in, within bounds of size and time, and has it worked on off the event loop."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Concatenate, ParamSpec, TypeVar

from aiohttp import web

from service.api.context import EXECUTOR, LIMITS, MODEL, ServedModel
from service.errors import InvalidRequestError, PayloadTooLargeError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


async def with_body(
    request: web.Request,
    work: Callable[Concatenate[bytes, ServedModel, Arguments], Result],
    *arguments: Arguments.args,
    **named: Arguments.kwargs,
) -> Result:
    """What ``work``, which renders and tokenises, makes of the body in an executor. Raises what it and we raise."""
    raw = await read_body(request)
    app = request.app
    call = partial(work, raw, app[MODEL], *arguments, **named)
    return await asyncio.get_running_loop().run_in_executor(app[EXECUTOR], call)


async def read_body(request: web.Request) -> bytes:
    """The whole body. Raises `PayloadTooLargeError`, before reading if its length is told, or `InvalidRequestError`."""
    limits = request.app[LIMITS]
    if (request.content_length or 0) > limits.max_body:
        raise PayloadTooLargeError(f"the body has {request.content_length} bytes, the limit is {limits.max_body}")
    try:
        async with asyncio.timeout(limits.body_timeout_s):
            return await request.read()
    except TimeoutError:
        raise InvalidRequestError(f"the body did not arrive within {limits.body_timeout_s:g} s") from None
    except web.RequestPayloadError:
        raise InvalidRequestError("the body is not what its headers say") from None
