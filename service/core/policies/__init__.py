"""Who goes first. A policy is one module here with one class; it is found by its ``name``."""

from collections.abc import Collection
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar, Protocol

from service.core.priority_trace import TraceSettings
from service.core.requests import Request


class Policy(Protocol):
    """Ranks live requests. Ranks are strict: two requests never tie, so nobody ping-pongs."""

    name: ClassVar[str]

    def __init__(self, trace: TraceSettings | None = None) -> None:
        """``trace`` is for those that draw priorities."""

    def rank(self, requests: Collection[Request], now: float, step: int) -> list[Request]:
        """All requests, the first to be served first; ``step`` steps have been run. Must not change them."""


def _discover() -> dict[str, type[Policy]]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {module.POLICY.name: module.POLICY for module in modules}


POLICIES: dict[str, type[Policy]] = _discover()
