"""The caller of a request: its turns' tenant, the conversations that they may continue, and their best priority.

With keys, the tenant is the key's. Without keys, it is the ``user`` that the request names, or else its connection.
"""

import hashlib
import secrets
from dataclasses import dataclass

from service.api.access.tenants import ANONYMOUS, Tenant
from service.errors import PriorityError

_PSEUDONYM_KEY = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent one request; `service.api.access.auth` makes it. ``request_id``: the one in the answer's header."""

    tenant: Tenant
    connection: str
    request_id: str

    def scope(self, user: str | None) -> tuple[str, str]:
        """Return the tenant that core charges and its user: KV is reused inside one scope only.

        Operators see the first of the two, so it never holds what a user wrote. Its three kinds cannot be confused,
        because a tenant's name has no colon.
        """
        if self.tenant is not ANONYMOUS:
            return self.tenant.name, user or ""
        return connection_scope(self.connection) if user is None else (f"user:{_pseudonym(user)}", user)

    def priority(self, asked: int | None) -> int:
        """Return the priority of a request that asks for ``asked``; if it asks for none, 0 or the best allowed.

        Raises `PriorityError` if it asks for a better one than its tenant may have.
        """
        best = self.tenant.best_priority
        if asked is None:
            return max(0, best)
        if asked < best:
            message = f"priority {asked} is better than this key allows; its best is {best}"
            raise PriorityError(message, param="priority")
        return asked


def connection_scope(name: str) -> tuple[str, str]:
    """Return the scope of a connection whose requests name no user. It ends with the connection."""
    return f"connection:{name}", ""


def _pseudonym(user: str) -> str:
    """Return a name that tells users apart until the server restarts, and says nothing else about them."""
    return hashlib.blake2s(user.encode(errors="surrogatepass"), key=_PSEUDONYM_KEY, digest_size=6).hexdigest()
