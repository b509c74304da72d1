"""The command ``fastswitch``. With `service.api.app` the only place that builds objects."""

from service.cli.main import main

__all__ = ["main"]
