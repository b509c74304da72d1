"""``fastswitch keys new`` writes a new key to stderr, and its entry for the key file to stdout.

    fastswitch keys new --name search >> keys.toml

shows the key once, and keeps only its hash.
"""

import argparse
import re
import sys
from datetime import UTC, datetime

from service.api.access.key_ring import digest, new_key
from service.api.access.tenants import TENANT_NAME
from service.errors import ConfigError


def add_keys_flags(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand to ``parser``."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make a key; append what stdout says to the key file", allow_abbrev=False)
    new.add_argument(
        "--name", required=True, metavar="TENANT", help="tenant that the key belongs to; a tenant may have several"
    )


def run_keys(flags: argparse.Namespace) -> int:
    """Make a key. Raises `ConfigError` if the tenant's name is not allowed."""
    if not re.fullmatch(TENANT_NAME, flags.name):
        raise ConfigError(f"--name {flags.name}: a tenant's name has 1 to 64 letters, digits, - and _")
    key = new_key()
    print(key, file=sys.stderr)
    print(entry(flags.name, key, datetime.now(UTC)))
    return 0


def entry(tenant: str, key: str, made: datetime) -> str:
    """Return a key's entry for the key file."""
    return f'\n[[keys]]  # made {made:%Y-%m-%d}\ntenant = "{tenant}"\nsha256 = "{digest(key)}"'
