"""The one table from error codes to HTTP status, OpenAI error type and WebSocket close code, and the error body."""

import math
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import WSCloseCode, web

from service import errors
from service.core.messages.events import Refused

# OpenAI's types; its clients choose their exception by the status.
STATUS_AND_TYPE: dict[str, tuple[int, str]] = {
    errors.InvalidRequestError.code: (HTTPStatus.BAD_REQUEST, "invalid_request_error"),
    errors.ContextLengthError.code: (HTTPStatus.BAD_REQUEST, "invalid_request_error"),
    errors.NeverFitsError.code: (HTTPStatus.BAD_REQUEST, "invalid_request_error"),
    errors.NotFoundError.code: (HTTPStatus.NOT_FOUND, "invalid_request_error"),
    errors.ModelNotFoundError.code: (HTTPStatus.NOT_FOUND, "invalid_request_error"),
    errors.SessionLostError.code: (HTTPStatus.NOT_FOUND, "invalid_request_error"),
    errors.MethodNotAllowedError.code: (HTTPStatus.METHOD_NOT_ALLOWED, "invalid_request_error"),
    errors.PayloadTooLargeError.code: (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "invalid_request_error"),
    errors.AuthenticationError.code: (HTTPStatus.UNAUTHORIZED, "invalid_request_error"),  # OpenAI's type for it
    errors.NotAllowedError.code: (HTTPStatus.FORBIDDEN, "permission_error"),
    errors.PriorityError.code: (HTTPStatus.FORBIDDEN, "permission_error"),
    errors.ForeignOriginError.code: (HTTPStatus.FORBIDDEN, "permission_error"),
    errors.SessionBusyError.code: (HTTPStatus.CONFLICT, "invalid_request_error"),
    errors.SessionTakenOverError.code: (HTTPStatus.CONFLICT, "invalid_request_error"),
    errors.OverloadedError.code: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.RequestLimitError.code: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.QueueLimitError.code: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.TokenLimitError.code: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.SessionLimitError.code: (HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error"),
    errors.QueueTimeoutError.code: (HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error"),
    errors.LoadingError.code: (HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error"),
    errors.ShuttingDownError.code: (HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error"),
    errors.OutOfMemoryError.code: (HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error"),
    errors.DeviceLostError.code: (HTTPStatus.SERVICE_UNAVAILABLE, "service_unavailable_error"),
    errors.SlowReaderError.code: (HTTPStatus.REQUEST_TIMEOUT, "timeout_error"),
    errors.InternalError.code: (HTTPStatus.INTERNAL_SERVER_ERROR, "server_error"),
}

UNAVAILABLE_RETRY_S = 5.0

# WebSocket close codes: the standard one if there is one, else 4000 plus the HTTP status.
STANDARD_CLOSE_CODES = {
    errors.PayloadTooLargeError.code: WSCloseCode.MESSAGE_TOO_BIG,
    errors.ShuttingDownError.code: WSCloseCode.GOING_AWAY,
    errors.InternalError.code: WSCloseCode.INTERNAL_ERROR,
}


def status_of(error: errors.RequestError) -> int:
    """Return the HTTP status of an error."""
    return STATUS_AND_TYPE[error.code][0]


def close_code_of(error: type[errors.RequestError] | errors.RequestError) -> int:
    """Return the code that a WebSocket is closed with when the error ends it."""
    return STANDARD_CLOSE_CODES.get(error.code, 4000 + STATUS_AND_TYPE[error.code][0])


def error_body(error: errors.RequestError, request_id: str) -> dict[str, Any]:
    """Return OpenAI's error object, with the request's id so that a report can be matched with the log."""
    return {
        "error": {
            "message": error.message,
            "type": STATUS_AND_TYPE[error.code][1],
            "param": error.param,
            "code": error.code,
            "request_id": request_id,
        }
    }


def error_response(
    error: errors.RequestError, request_id: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the whole answer. A busy or stopping server says when to try again, and a 401 which key it wants."""
    headers = dict(headers or {})
    if isinstance(error, errors.AuthenticationError):
        headers["WWW-Authenticate"] = 'Bearer realm="fastswitch"'
    if (retry_after_s := retry_after(error)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
    return web.json_response(error_body(error, request_id), status=status_of(error), headers=headers)


def retry_after(error: errors.RequestError) -> float | None:
    """Return the seconds after which a refused client should try again, or None if that is pointless."""
    if isinstance(error, errors.OverloadedError):
        return error.retry_after_s
    unavailable = errors.LoadingError | errors.ShuttingDownError | errors.OutOfMemoryError | errors.DeviceLostError
    return UNAVAILABLE_RETRY_S if isinstance(error, unavailable) else None


def from_refusal(refusal: Refused) -> errors.RequestError:
    """Return the error that core named."""
    kind = kind_of(refusal.code)
    if refusal.retry_after_s is not None and issubclass(kind, errors.OverloadedError):
        return kind(refusal.message, retry_after_s=refusal.retry_after_s)
    return kind(refusal.message)


def kind_of(code: str) -> type[errors.RequestError]:
    """Return the error class of a code."""
    return _BY_CODE[code]


def from_http(exception: web.HTTPException, path: str) -> errors.RequestError:
    """Return the error that stands for an exception of aiohttp's own."""
    match exception:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(exception.allowed_methods))
            return errors.MethodNotAllowedError(f"{exception.method} is not allowed for {path}; {allowed} is")
        case web.HTTPRequestEntityTooLarge():
            return errors.PayloadTooLargeError("the request body is larger than the limit")
        case web.HTTPNotFound():
            return errors.NotFoundError(f"no route {path}")
    return errors.InvalidRequestError(exception.reason)


def _descendants(root: type[errors.RequestError]) -> Iterator[type[errors.RequestError]]:
    for child in root.__subclasses__():
        yield child
        yield from _descendants(child)


_BY_CODE = {kind.code: kind for kind in _descendants(errors.RequestError)}
