"""API keys and their tenants, read from a file or the environment.

    [tenants.search]            # optional: every field has a default
    weight = 2.0
    tokens_per_minute = 60000

    [[keys]]
    tenant = "search"
    sha256 = "…"                # what `fastswitch keys new` prints

Only the SHA-256 of a key is kept. A slow, salted hash protects secrets that people choose; a key of 256 random bits
cannot be guessed, whatever the hash costs, and a slow hash would delay every request. A key is found by a dict lookup
of its digest: the time that it takes says nothing about a key, because a client cannot choose the digest of what it
sends.
"""

import hashlib
import re
import secrets
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.api.access.tenants import TENANT_NAME, Tenant, TenantName
from service.errors import ConfigError

KEY_PREFIX = "fsk-"  # so that secret scanners, and people, recognise a key
MIN_KEY_LENGTH = 20  # characters of a key that an operator chose
DEFAULT_TENANT = "default"


def new_key() -> str:
    """Return a key of 256 random bits, in characters that headers and WebSocket subprotocols allow."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """Return the SHA-256 of a key, which is all that is kept of it."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The tenants by the digests of their keys."""

    tenants: Mapping[str, Tenant]

    def find(self, key: str) -> Tenant | None:
        """Return the tenant of a key, or None if the key is unknown."""
        return self.tenants.get(digest(key))


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Key(_Table):
    tenant: TenantName
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _File(_Table):
    tenants: dict[TenantName, dict[str, Any]] = {}
    keys: list[_Key] = []

    def built_tenants(self) -> dict[str, Tenant]:
        """Return every tenant that has a table."""
        return {name: Tenant.model_validate({"name": name} | table) for name, table in self.tenants.items()}


def parse_ring(text: str, extra: Iterable[tuple[str, str]] = ()) -> KeyRing:
    """Return the ring that a file's text describes, with ``extra`` pairs of tenant and digest. Raises `ConfigError`."""
    try:
        file = _File.model_validate(tomllib.loads(text))
        tenants = file.built_tenants()
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(str(error)) from None
    except ValidationError as error:
        raise ConfigError(_describe(error)) from None
    pairs = [*((key.tenant, key.sha256) for key in file.keys), *extra]
    if twice := [hashed for hashed, count in Counter(hashed for _, hashed in pairs).items() if count > 1]:
        raise ConfigError(f"the key with sha256 {twice[0]} occurs more than once")
    return KeyRing({hashed: tenants.get(name) or Tenant(name=name) for name, hashed in pairs})


def parse_inline(text: str) -> tuple[tuple[str, str], ...]:
    """Return pairs of tenant and digest from ``tenant:key,tenant:key``. Raises `ConfigError`, which quotes no key."""
    entries = re.findall(r"[^,\s]+", text)
    if not entries:  # an unset variable, for example: no operator means to serve without keys
        raise ConfigError("--api-keys holds no key")
    return tuple(_parse_entry(number, entry) for number, entry in enumerate(entries, 1))


def _parse_entry(number: int, entry: str) -> tuple[str, str]:
    tenant, colon, key = entry.partition(":")
    if not colon:
        tenant, key = DEFAULT_TENANT, entry
    if not re.fullmatch(TENANT_NAME, tenant):
        raise ConfigError(f"--api-keys, key {number}: a tenant's name has 1 to 64 letters, digits, - and _")
    if len(key) < MIN_KEY_LENGTH:
        raise ConfigError(f"--api-keys, key {number}: has {len(key)} characters, at least {MIN_KEY_LENGTH} are needed")
    return tenant, digest(key)


def _describe(error: ValidationError) -> str:
    """Return the first problem and where it is, without the value."""
    problem = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
