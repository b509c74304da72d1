"""The bound on requests that are being prepared, queued or answered. It closes for shutdown."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.api.access.accounts import Accounts
from service.api.access.tenants import Tenant
from service.errors import OverloadedError, ShuttingDownError


class Door:
    """Counts the open requests of all tenants, and has `Accounts` count each tenant's. Belongs to the event loop.

    ``retry_after_s`` says when a place is likely to be free. Always true: 0 <= ``inside`` <= ``limit``; once closed, it
    stays closed.
    """

    def __init__(self, limit: int, accounts: Accounts, retry_after_s: Callable[[], float]) -> None:
        self.limit = limit
        self._accounts = accounts
        self._retry_after_s = retry_after_s
        self.inside = 0
        self.closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self, tenant: Tenant) -> Iterator[None]:
        """Count a request as inside for the block. Raises `OverloadedError` (or a subclass) or `ShuttingDownError`."""
        if self.closed:
            raise ShuttingDownError()
        if self.inside >= self.limit:
            message = f"{self.inside} requests are open, the limit is {self.limit}"
            raise OverloadedError(message, retry_after_s=self._retry_after_s())
        with self._accounts.enter(tenant):
            self.inside += 1
            self._empty.clear()
            try:
                yield
            finally:
                self.inside -= 1
                if not self.inside:
                    self._empty.set()

    def close(self) -> None:
        """Refuse all further requests."""
        self.closed = True

    async def emptied(self, timeout_s: float) -> bool:
        """Wait until no request is inside. Return False if one still is after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
