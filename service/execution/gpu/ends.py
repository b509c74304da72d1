"""Events that nothing can go on without."""

from time import sleep

import structlog

from service.errors import DeviceLostError
from service.execution.gpu.runtime import Event, Stream

log = structlog.get_logger(__name__)

RETRY_S = 0.1


def end_of(stream: Stream, what: str) -> Event:
    """An event after what was submitted: without one nobody could tell when the memory that it uses is free.

    Tried until there is one; ``what`` is for the log. Raises DeviceLostError.
    """
    while True:
        try:
            return stream.record()
        except DeviceLostError:
            raise
        except Exception:
            log.exception("end_unknown", what=what)
            sleep(RETRY_S)
