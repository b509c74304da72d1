"""What happens around every handler: request id, origin check, errors as JSON, a count and a log line."""

import asyncio
import re
import secrets
import time

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from service.api.access.origins import check_origin, preflight
from service.api.context import BEGUN, LIMITS, METRICS, REQUEST_ID
from service.api.errors import error_response, from_http, status_of
from service.api.slow_readers import abort_connection
from service.errors import InternalError, RequestError

log = structlog.get_logger(__name__)

CLIENT_LEFT = 499  # nginx's status for it
QUIET_ROUTES = {"/health", "/ready", "/metrics", "/debug/state"}  # polled every few seconds: logged at debug level

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


@web.middleware
async def account(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, then count and log how it ended. The outermost middleware."""
    request[REQUEST_ID] = _request_id(request)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request[REQUEST_ID])
    began = time.perf_counter()
    status = CLIENT_LEFT
    try:
        response = await handler(request)
        status = response.status
        return response
    except RequestError as error:  # a response had begun and cannot be finished
        status = status_of(error)
        return request[BEGUN]
    finally:
        _note(request, status, time.perf_counter() - began)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn whatever a handler raises into an answer, or abort the connection if part of one was sent."""
    headers: dict[str, str] = {}
    try:
        limits = request.app[LIMITS]
        check_origin(request.headers.get("Origin"), request.host, limits.only_local, limits.allowed_origins)
        return preflight(request) or await handler(request)
    except RequestError as raised:
        error = raised
    except web.HTTPException as raised:
        error = from_http(raised, request.path)
        headers = {name: value for name, value in raised.headers.items() if name == "Allow"}
    except ConnectionError:  # the client left while we wrote; the loop's own notice comes a moment later
        raise asyncio.CancelledError from None
    except Exception:
        log.exception("handler_failed")
        error = InternalError()
    if BEGUN in request:
        abort_connection(request)
        raise error
    return error_response(error, request[REQUEST_ID], headers)


async def add_request_id(request: web.Request, response: web.StreamResponse) -> None:
    """Put the request's id into a response, which may be a stream. A signal handler: runs before headers are sent."""
    response.headers["X-Request-Id"] = request[REQUEST_ID]


def _request_id(request: web.Request) -> str:
    """Return the client's own id if it is fit for a log, else a new one."""
    requested = request.headers.get("X-Request-Id", "")
    return requested if _SANE_ID.fullmatch(requested) else f"req-{secrets.token_hex(12)}"


def _note(request: web.Request, status: int, seconds: float) -> None:
    resource = request.match_info.route.resource
    route = "unmatched" if resource is None else resource.canonical  # never the path: it is the user's text
    method = request.method if request.method in {"GET", "HEAD", "POST", "OPTIONS"} else "other"
    request.app[METRICS].http_answered(route, method, status)
    level = "debug" if route in QUIET_ROUTES else "info"
    getattr(log, level)("request", method=method, route=route, status=status, seconds=round(seconds, 6))
