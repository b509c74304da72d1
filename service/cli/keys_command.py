"""``fastswitch keys new``: a fresh key on stderr, its entry for the key file on stdout.

    fastswitch keys new --name search >> keys.toml

shows the key, once, and keeps only its hash.
"""

import argparse
import re
import sys
from datetime import UTC, datetime

from service.api.access.key_ring import digest, new_key
from service.api.access.tenants import TENANT_NAME
from service.errors import ConfigError


def add_keys_flags(parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` its subcommand."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key; append what stdout says to the key file", allow_abbrev=False)
    new.add_argument("--name", required=True, metavar="TENANT", help="tenant that the key belongs to; may have several")


def run_keys(flags: argparse.Namespace) -> int:
    """Make a key. Raises `ConfigError` if the tenant cannot be called so."""
    if not re.fullmatch(TENANT_NAME, flags.name):
        raise ConfigError(f"--name {flags.name}: a tenant's name has 1 to 64 letters, digits, - and _")
    key = new_key()
    print(key, file=sys.stderr)
    print(entry(flags.name, key, datetime.now(UTC)))
    return 0


def entry(tenant: str, key: str, made: datetime) -> str:
    """What the key file has to say of a key."""
    return f'\n[[keys]]  # made {made:%Y-%m-%d}\ntenant = "{tenant}"\nsha256 = "{digest(key)}"'
