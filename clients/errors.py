"""All errors of the clients, in one tree. Some have a namesake in `service.errors`, the server's side of the protocol.

    ClientError
    ├── UnreachableError           no connection: wrong address, or no server there
    ├── ServerTimeoutError         connected, but silent for longer than the read time-out
    ├── ConnectionLostError        the connection, or the answer, broke off
    └── APIError                   the server refused: status, type, code, param, request_id, retry_after_s
        ├── BadRequestError        400, 405, 413, 422
        ├── AccessDeniedError      401, 403
        ├── NotFoundError          404
        ├── OverloadedError        429
        └── ServerFaultError       500 and above

An error event in mid-stream is a plain `APIError` whose ``status`` is None: the answer had begun with a 200.
"""

from dataclasses import dataclass


class ClientError(Exception):
    """Base of all client errors. Its text is one line fit for a user."""


class UnreachableError(ClientError):
    """No connection could be made."""


class ServerTimeoutError(ClientError):
    """The server sent nothing for longer than the read time-out."""


class ConnectionLostError(ClientError):
    """The answer broke off, or did not follow the protocol."""


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """What the server's `ErrorDetails` and its headers say about an error. ``status`` is None in mid-stream."""

    message: str
    status: int | None = None
    type: str | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None


class APIError(ClientError):
    """The server refused or ended the request; ``details`` has all that it reported."""

    def __init__(self, details: ErrorDetails) -> None:
        super().__init__(details.message)
        self.details = details

    @property
    def status(self) -> int | None:
        """HTTP status; None for an error event in mid-stream."""
        return self.details.status

    @property
    def code(self) -> str | None:
        """The server's machine-readable name of the error."""
        return self.details.code


class BadRequestError(APIError):
    """The request is malformed, out of range or too large."""


class AccessDeniedError(APIError):
    """The API key is missing, wrong or not allowed to do this."""


class NotFoundError(APIError):
    """The route or model does not exist."""


class OverloadedError(APIError):
    """The server is too busy now; ``details.retry_after_s`` says when to try again."""


class ServerFaultError(APIError):
    """The server failed, is starting or is shutting down."""


_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AccessDeniedError,
    403: AccessDeniedError,
    404: NotFoundError,
    405: BadRequestError,
    413: BadRequestError,
    422: BadRequestError,
    429: OverloadedError,
}


def api_error(details: ErrorDetails) -> APIError:
    """Return the error whose class fits the status."""
    status = details.status
    if status is not None and status >= 500:
        return ServerFaultError(details)
    return _BY_STATUS.get(status or 0, APIError)(details)
