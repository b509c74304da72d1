"""The caller of a request: who is charged for its turns, which conversations they may continue, and how they rank.

With keys the key's tenant is charged, without keys the client's address. In both cases the ``user`` that a request
names divides the share: it makes nobody's larger, however many users a client invents.
"""

from dataclasses import dataclass
from typing import Literal

from service.api.access.sharing import Sharing
from service.api.access.tenants import ANONYMOUS, Tenant
from service.errors import PriorityError

ServedTier = Literal["default", "flex"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent one request; `service.api.access.auth` makes it.

    ``address``: the tenant that is charged if there are no keys. ``request_id``: the one in the answer's header.
    ``sharing``: the server's.
    """

    tenant: Tenant
    address: str
    request_id: str
    sharing: Sharing

    @property
    def charged(self) -> str:
        """The name of the tenant that core charges. Operators see it: it never holds what a user wrote."""
        return self.address if self.tenant is ANONYMOUS else self.tenant.name

    def scope(self, user: str | None, salt: str | None) -> tuple[str, ...] | None:
        """Return the scope inside which a request's KV is reused: its tenant's, or a part of it; None if it is not.

        All callers of a server without keys are one tenant, whatever their addresses: those change.
        """
        return self.sharing.scope(self.tenant.name, user or "", salt)

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

    def tier(self, asked: str | None) -> ServedTier:
        """Return the service tier of a request that asks for ``asked``; *flex* is background work.

        No tier is better than *default*, which is what OpenAI answers, too, when it has no better one to give.
        """
        return "flex" if self.tenant.background or asked == "flex" else "default"
