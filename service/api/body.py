"""Reads a request's body, within bounds of size and time, and has it worked on off the event loop."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

from aiohttp import web

from service.api.context import LIMITS, MODEL, ServedModel
from service.api.executor import in_executor
from service.errors import InvalidRequestError, PayloadTooLargeError

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


async def with_body(
    request: web.Request, work: Callable[[bytes, ServedModel, *Arguments], Result], *arguments: *Arguments
) -> Result:
    """Read the body and return what ``work`` makes of it in an executor. Raises as `read_body` and ``work`` do."""
    raw = await read_body(request)
    return await in_executor(request.app, work, raw, request.app[MODEL], *arguments)


async def read_body(request: web.Request) -> bytes:
    """Return the whole body.

    Raises `InvalidRequestError` or `PayloadTooLargeError`, the latter before reading if the length is declared.
    """
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
