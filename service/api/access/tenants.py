"""Tenants, who are charged, and their limits. A tenant's name comes from the operator, never from a user."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Fit for a label, a log line and a TOML table without quotes. No colon: see `service.api.access.caller`.
TENANT_NAME = r"^[A-Za-z0-9_-]{1,64}$"
TenantName = Annotated[str, Field(pattern=TENANT_NAME)]

LOWEST_PRIORITY = -(2**31)
LEAST_WEIGHT, MOST_WEIGHT = 0.001, 1000.0


class Tenant(BaseModel):
    """One tenant. A limit that is None is no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str
    weight: float = Field(default=1.0, ge=LEAST_WEIGHT, le=MOST_WEIGHT)  # share against other tenants
    # The best that it may ask for, which is the lowest number; the key file calls it by its older name.
    best_priority: int = Field(default=0, ge=LOWEST_PRIORITY, lt=2**31, alias="max_priority")
    background: bool = False  # all that it asks for gets only what all other work leaves
    admin: bool = False  # may read metrics and debug views, which show all tenants
    max_requests: int | None = Field(default=None, ge=1)  # open at once
    max_queue: int | None = Field(default=None, ge=1)  # answers that wait for their first step
    tokens_per_minute: int | None = Field(default=None, ge=1)  # prompt and answer
    max_sessions: int | None = Field(default=None, ge=0)  # open over WebSocket, or idle with their KV kept


# Every caller's where no keys are configured: it has no limits, and the address is charged in its place.
ANONYMOUS = Tenant(name="", max_priority=LOWEST_PRIORITY)
