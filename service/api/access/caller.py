"""Who sent a request: whom its turns are charged to, whose conversations they may continue, how good a rank they get.

With keys the tenant is the key's. Without, it is the ``user`` that the request names, or else its connection.
"""

import hashlib
import secrets
from dataclasses import dataclass

from service.api.access.tenants import ANONYMOUS, Tenant
from service.errors import PriorityError

_PSEUDONYM_KEY = secrets.token_bytes(16)


@dataclass(frozen=True, slots=True)
class Caller:
    """Made for each request by `service.api.access.auth`. ``request_id``: the one that its answer's header tells."""

    tenant: Tenant
    connection: str
    request_id: str

    def scope(self, user: str | None) -> tuple[str, str]:
        """Whom core charges, and which user of theirs: KV is reused inside one scope only.

        Operators see the first of the two, hence it is nothing that a user wrote. The three kinds of it cannot be
        mistaken for one another: a tenant's name has no colon.
        """
        if self.tenant is not ANONYMOUS:
            return self.tenant.name, user or ""
        return connection_scope(self.connection) if user is None else (f"user:{_pseudonym(user)}", user)

    def priority(self, asked: int | None) -> int:
        """The priority of a request that asks for ``asked``: 0 or the best allowed if it does not care.

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
    """The scope of a connection whose requests name no user: it ends with the connection."""
    return f"connection:{name}", ""


def _pseudonym(user: str) -> str:
    """Tells users apart until the server restarts, and says nothing else about them."""
    return hashlib.blake2s(user.encode(errors="surrogatepass"), key=_PSEUDONYM_KEY, digest_size=6).hexdigest()
