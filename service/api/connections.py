"""A name for each TCP connection: the tenant of clients that say nothing of themselves."""

import secrets
from weakref import WeakKeyDictionary

from aiohttp import web


class Connections:
    """Names never come back, as addresses and ports do. Belongs to the event loop."""

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[object, str] = WeakKeyDictionary()

    def name(self, request: web.Request) -> str:
        """The same for all requests of one connection."""
        if request.transport is None:  # gone already
            return secrets.token_hex(8)
        return self._names.setdefault(request.transport, secrets.token_hex(8))
