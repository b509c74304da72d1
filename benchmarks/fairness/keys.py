"""A key file for one run: a key and a weight for each tenant, and an operator who may read /metrics."""

import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

OPERATOR = "operator"


def write_keys(path: Path, weights: Mapping[str, float]) -> dict[str, str]:
    """Write the file and return a new key by tenant, the operator's included. Raises OSError."""
    keys = {tenant: secrets.token_urlsafe(32) for tenant in (*weights, OPERATOR)}
    tables = [f"[tenants.{tenant}]\nweight = {weight}\n" for tenant, weight in weights.items()]
    tables.append(f"[tenants.{OPERATOR}]\nadmin = true\n")
    hashes = [
        f'[[keys]]\ntenant = "{tenant}"\nsha256 = "{sha256(key.encode()).hexdigest()}"\n'
        for tenant, key in keys.items()
    ]
    path.write_text("\n".join([*tables, *hashes]))
    return keys


def bearer(key: str) -> dict[str, str]:
    """Return the headers that carry a key."""
    return {"Authorization": f"Bearer {key}"}
