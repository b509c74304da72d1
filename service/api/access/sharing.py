"""Who may reuse whose KV: the scopes that turns belong to.

Whoever may share can learn, by time and by ``cached_tokens``, that somebody in the scope sent the same blocks. A scope
is therefore never wider than a tenant, and a request narrows it with a salt.
"""

import secrets
from dataclasses import dataclass, field
from hashlib import blake2b

from service.config import PrefixSharing

_SECRET_BYTES = 32
_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Sharing:
    """How far KV is shared.

    ``secret``: mixed with every salt, so that nobody who sees a scope can read a salt in it, or try salts out.
    """

    by: PrefixSharing
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(_SECRET_BYTES), repr=False)

    def scope(self, tenant: str, user: str, salt: str | None) -> tuple[str, ...] | None:
        """Return the scope of a request; None: nothing is reused. ``tenant``: empty for a server without keys."""
        if self.by == "off":
            return None
        return tenant, user if self.by == "user" else "", "" if salt is None else self._mixed(salt)

    def _mixed(self, salt: str) -> str:
        return blake2b(salt.encode(), key=self.secret, digest_size=_SALT_BYTES).hexdigest()
