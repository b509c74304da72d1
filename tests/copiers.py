"""Copiers around copiers, for tests."""

from collections.abc import Callable
from dataclasses import replace

from allocator import Ticket
from service.core.messages.plan import CopyResult
from service.core.messages.ports import Copier


class Cheap:
    """A copier whose copies report that they took no time.

    On a busy machine a copy can take longer than computing a few tokens again, which core would then prefer.
    """

    def __init__(self, inner: Copier) -> None:
        self._inner = inner

    def start(self, report: Callable[[CopyResult], None]) -> None:
        """Start the inner copier, and remove the seconds of each report."""
        self._inner.start(lambda result: report(replace(result, seconds=1e-9)))

    def submit(self, ticket: Ticket) -> None:
        """See `Copier`."""
        self._inner.submit(ticket)

    def stop(self) -> None:
        """See `Copier`."""
        self._inner.stop()
