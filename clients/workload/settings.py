"""The settings of a workload: flags of ``fastswitch workload``, and of ``fastswitch load`` without a trace.

They have the names of `vllm bench serve` where it has such a flag.
"""

import math

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from clients.workload.spec import HELP, DistributionSpec
from clients.workload.tenants import HELP as TENANT_HELP
from clients.workload.tenants import OPTIONS, WorkloadTenant, parse_tenant


class ArrivalSettings(BaseModel):
    """When conversations begin: an open loop by rate, or a closed loop of users."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="seed of all draws; the same seed makes the same workload")
    request_rate: float | None = Field(
        None,
        gt=0,
        description="open loop: turns a second; conversations arrive at this rate over their mean turns",
    )
    conversation_rate: float | None = Field(None, gt=0, description="open loop: conversations a second")
    burstiness: float = Field(1.0, gt=0, description="shape of the gamma distributed gaps; 1: Poisson, less: burstier")
    ramp_up_end_rps: float | None = Field(
        None, gt=0, description="the rate at the last arrival, if the rate changes linearly"
    )
    users: int | None = Field(
        None, ge=1, description="closed loop: number of users, each with one conversation at a time"
    )

    @model_validator(mode="after")
    def _one_loop(self) -> "ArrivalSettings":
        loops = [self.request_rate, self.conversation_rate, self.users]
        if sum(value is not None for value in loops) > 1:
            raise ValueError("--request-rate, --conversation-rate and --users exclude each other")
        if self.ramp_up_end_rps is not None and self.rate in (None, math.inf):
            raise ValueError("--ramp-up-end-rps needs a --request-rate or --conversation-rate to start from")
        return self

    @property
    def rate(self) -> float | None:
        """The open loop's rate in the unit of its flag; None without an open loop."""
        return self.request_rate if self.request_rate is not None else self.conversation_rate


class WorkloadSettings(ArrivalSettings):
    """Make a trace of conversations from a seed."""

    conversations: int = Field(
        100, ge=1, description="how many, the first ones of a trace; without a rate or users all begin at once"
    )
    turns: DistributionSpec = Field("1", description=f"turns a conversation: {HELP}")
    input_len: DistributionSpec = Field(
        "lognormal:161,0.8,2000", description="tokens of a user's message, like --turns"
    )
    output_len: DistributionSpec = Field(
        "lognormal:338,0.8,2000", description="tokens of the longest answer, like --turns"
    )
    think_time: DistributionSpec = Field("0", description="seconds from an answer to the next message, like --turns")
    tenant: list[str] = Field([], description=f"a tenant; may be repeated: {TENANT_HELP}")
    cancel_rate: float = Field(0.0, ge=0, le=1, description="share of turns that their user cancels in mid-answer")
    disconnect_rate: float = Field(0.0, ge=0, le=1, description="share of turns whose client vanishes in mid-answer")
    slow_reader_rate: float = Field(0.0, ge=0, le=1, description="share of conversations whose client reads slowly")
    slow_reader_speed: float = Field(2.0, gt=0, description="pieces of an answer that a slow reader reads a second")

    @field_validator("tenant", mode="before")
    @classmethod
    def _rejoin(cls, specs: list[str]) -> list[str]:
        """Join what the command line has split at the commas between a tenant's options."""
        whole: list[str] = []
        for piece in specs:
            if whole and piece.partition("=")[0] in OPTIONS:
                whole[-1] += f",{piece}"
            else:
                whole.append(piece)
        return whole

    @field_validator("tenant")
    @classmethod
    def _tenants_are_known(cls, specs: list[str]) -> list[str]:
        names = [parse_tenant(spec).name for spec in specs]
        if len(set(names)) != len(names):
            raise ValueError("a tenant is named twice")
        return specs

    @model_validator(mode="after")
    def _ends_once(self) -> "WorkloadSettings":
        if self.cancel_rate + self.disconnect_rate > 1:
            raise ValueError("--cancel-rate and --disconnect-rate are more than 1 together")
        return self

    @property
    def tenants(self) -> tuple[WorkloadTenant, ...]:
        """The configured tenants, or a single one without a name."""
        return tuple(parse_tenant(spec) for spec in self.tenant) or (WorkloadTenant(""),)

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the configured tenants, by name."""
        return {tenant.name: tenant.weight for tenant in self.tenants if tenant.name}

    @property
    def without_secrets(self) -> dict[str, object]:
        """Every setting as it was in effect, without keys, for reports."""
        values = self.model_dump(mode="json", exclude={"api_key"})
        values["tenant"] = [spec.partition("key=")[0].rstrip(",:") for spec in self.tenant]
        return values
