"""Every error that a user can meet, in one tree.

    FastSwitchError                      code
    ├── StartupError                                             exit code 2, one line
    │   ├── ConfigError              config_invalid
    │   ├── ModelLoadError           model_unloadable
    │   └── DeviceNotFoundError      device_not_found
    ├── MachineMemoryError                                       at start exit code 2; in a step an OutOfMemoryError
    │   ├── DeviceMemoryError        device_memory
    │   └── PinnedMemoryError        pinned_memory
    └── RequestError                                             refused or ended; the server goes on
        ├── InvalidRequestError      invalid_request_error       400
        │   ├── ContextLengthError   context_length_exceeded     400
        │   └── NeverFitsError       kv_capacity_exceeded        400
        ├── NotFoundError            not_found                   404
        │   ├── ModelNotFoundError   model_not_found             404
        │   └── SessionLostError     session_lost                404
        ├── MethodNotAllowedError    method_not_allowed          405
        ├── PayloadTooLargeError     payload_too_large           413
        ├── AuthenticationError      invalid_api_key             401
        ├── NotAllowedError          permission_denied           403
        │   └── PriorityError        priority_not_allowed        403
        ├── ForeignOriginError       foreign_origin              403
        ├── SessionBusyError         session_busy                409
        ├── SessionTakenOverError    session_taken_over          409
        ├── OverloadedError          server_overloaded           429
        │   ├── RequestLimitError    request_limit_exceeded      429
        │   ├── QueueLimitError      queue_limit_exceeded        429
        │   ├── TokenLimitError      token_limit_exceeded        429
        │   ├── SessionLimitError    session_limit_exceeded      429
        │   └── QueueTimeoutError    queue_timeout               503    before its first step
        ├── LoadingError             loading                     503
        ├── ShuttingDownError        shutting_down               503
        ├── OutOfMemoryError         out_of_memory               503    in a step; other requests go on
        ├── DeviceLostError          device_lost                 503    for all that follow, until a restart
        ├── SlowReaderError          slow_reader                 -      the stream is aborted
        └── InternalError            internal_error              500

`service.api.errors` maps the codes to HTTP status, OpenAI error type and WebSocket close code; nothing else does.
"""


class FastSwitchError(Exception):
    """The base of all errors. ``code`` is stable and machine-readable."""

    code = "error"

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class StartupError(FastSwitchError):
    """The service cannot start."""


class ConfigError(StartupError):
    """A setting is wrong or contradicts another."""

    code = "config_invalid"


class ModelLoadError(StartupError):
    """Model files are missing, corrupt or of a kind that is not supported."""

    code = "model_unloadable"


class DeviceNotFoundError(StartupError):
    """The GPU that was asked for, or its driver, is missing."""

    code = "device_not_found"


class MachineMemoryError(FastSwitchError):
    """The machine has less memory than was asked for, at the start or in a step."""


class DeviceMemoryError(MachineMemoryError):
    """A device has less memory than was asked for.

    All numbers are bytes; ``asked`` is None if a library asked for the memory. ``why`` follows the numbers in the
    message.
    """

    code = "device_memory"

    def __init__(self, device: str, *, asked: int | None, free: int, total: int, why: str = "") -> None:
        wanted = "memory" if asked is None else readable(asked)
        numbers = f"{wanted} asked for, {readable(free)} of {readable(total)} free"
        super().__init__(f"{device}: {numbers}{why and f': {why}'}")


class PinnedMemoryError(MachineMemoryError):
    """The host grants no more page-locked memory, or less than it promised. All numbers are bytes of the host."""

    code = "pinned_memory"

    def __init__(self, why: str, *, device: str, asked: int, pinned: int, free: int, total: int) -> None:
        super().__init__(
            f"page-locked memory for {device}: {why}; {readable(asked)} asked for, {readable(pinned)} pinned so far, "
            f"{readable(free)} of the host's {readable(total)} free"
        )
        self.why, self.device, self.free, self.total = why, device, free, total


class RequestError(FastSwitchError):
    """A request was refused or ended early."""


class InvalidRequestError(RequestError):
    """The request is malformed or out of range."""

    code = "invalid_request_error"


class ContextLengthError(InvalidRequestError):
    """Prompt and answer together exceed the model's context."""

    code = "context_length_exceeded"


class NeverFitsError(InvalidRequestError):
    """Prompt and answer together exceed the server's whole KV memory."""

    code = "kv_capacity_exceeded"


class NotFoundError(RequestError):
    """There is no such route or thing."""

    code = "not_found"


class ModelNotFoundError(NotFoundError):
    """The named model is not served here."""

    code = "model_not_found"


class SessionLostError(NotFoundError):
    """The session expired, was closed, or belongs to another owner; the client sends its history again."""

    code = "session_lost"


class MethodNotAllowedError(RequestError):
    """The route exists, but not for this method."""

    code = "method_not_allowed"


class PayloadTooLargeError(RequestError):
    """The body is larger than the limit."""

    code = "payload_too_large"


class AuthenticationError(RequestError):
    """The request has no API key, or one that is unknown."""

    code = "invalid_api_key"


class NotAllowedError(RequestError):
    """The key is valid, but does not allow this."""

    code = "permission_denied"


class PriorityError(NotAllowedError):
    """The request asks for a better priority than its key may have."""

    code = "priority_not_allowed"


class ForeignOriginError(RequestError):
    """A browser page of another site sent the request."""

    code = "foreign_origin"


class SessionBusyError(RequestError):
    """A turn is already under way in the session."""

    code = "session_busy"


class SessionTakenOverError(RequestError):
    """Another connection opened the session."""

    code = "session_taken_over"


class OverloadedError(RequestError):
    """The queue is full; ``retry_after_s`` says when to try again."""

    code = "server_overloaded"

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RequestLimitError(OverloadedError):
    """The tenant has reached its limit of open requests."""

    code = "request_limit_exceeded"


class QueueLimitError(OverloadedError):
    """The tenant has reached its limit of waiting requests."""

    code = "queue_limit_exceeded"


class TokenLimitError(OverloadedError):
    """The tenant has used up its tokens of this minute."""

    code = "token_limit_exceeded"


class SessionLimitError(OverloadedError):
    """The tenant has reached its limit of open sessions."""

    code = "session_limit_exceeded"


class QueueTimeoutError(OverloadedError):
    """The request waited longer than it may for its first step."""

    code = "queue_timeout"


class LoadingError(RequestError):
    """The server is alive but has no model yet."""

    code = "loading"


class ShuttingDownError(RequestError):
    """The server is draining and accepts no new requests."""

    code = "shutting_down"

    def __init__(self, message: str = "the server is shutting down") -> None:
        super().__init__(message)


class OutOfMemoryError(RequestError):
    """The GPU lacked memory for a step that the request was in."""

    code = "out_of_memory"


class DeviceLostError(RequestError):
    """The GPU stopped working; every later request gets this error until the server is restarted."""

    code = "device_lost"


class SlowReaderError(RequestError):
    """The client reads so slowly that its buffer is full."""

    code = "slow_reader"


class InternalError(RequestError):
    """A fault of the server; its log has the details under the request id."""

    code = "internal_error"

    def __init__(self, message: str = "an internal error; the server's log has it under the request id") -> None:
        super().__init__(message)


def readable(num_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if num_bytes >= 1 << power:
            return f"{num_bytes / (1 << power):.4g} {unit}"
    return f"{int(num_bytes)} bytes"
