"""The service's own defaults, for tests that change a few of them."""

from dataclasses import replace
from typing import Any

from service.api.context import Limits
from service.cli import wiring
from service.config import ServeSettings
from service.core.core import CoreSettings
from service.core.policies import POLICIES, Policy


def core_settings(device_blocks: int, host_blocks: int = 0, **changes: Any) -> CoreSettings:
    return replace(wiring.core_settings(ServeSettings(), device_blocks, host_blocks), **changes)


def make_policy(name: str, **changes: Any) -> Policy:
    return POLICIES[name](replace(wiring.policy_settings(ServeSettings()), **changes))


def make_limits(**changes: Any) -> Limits:
    return replace(wiring.limits(ServeSettings()), **changes)
