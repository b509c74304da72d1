"""Who may come in: bounds the requests that are being prepared, queued or answered, all tenants' together and each
one's, and closes for shutdown."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from service.api.access.accounts import Accounts
from service.api.access.tenants import Tenant
from service.errors import OverloadedError, ShuttingDownError


class Door:
    """Belongs to the event loop. Always true: 0 <= ``inside`` <= ``limit``; once closed, it stays so."""

    def __init__(self, limit: int, accounts: Accounts) -> None:
        self.limit = limit
        self._accounts = accounts
        self.inside = 0
        self.closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @contextmanager
    def enter(self, tenant: Tenant) -> Iterator[None]:
        """Be inside for the block's time. Raises `OverloadedError`, its subclasses too, or `ShuttingDownError`."""
        if self.closed:
            raise ShuttingDownError()
        if self.inside >= self.limit:
            raise OverloadedError(f"{self.inside} requests are open, the limit is {self.limit}")
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
        """Let nobody in any more."""
        self.closed = True

    async def emptied(self, timeout_s: float) -> bool:
        """Wait until nobody is inside. False: somebody still is after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True
