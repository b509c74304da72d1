"""Takes a request's body in, within bounds of size and time."""

import asyncio

from aiohttp import web

from service.api.context import LIMITS
from service.errors import InvalidRequestError, PayloadTooLargeError


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
