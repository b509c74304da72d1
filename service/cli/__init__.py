"""The command ``fastswitch``, which builds the service's objects. Read `main` first, then `serve` and `wiring`."""

from service.cli.main import main

__all__ = ["main"]
