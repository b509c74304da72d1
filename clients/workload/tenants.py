"""Tenants of a workload, written as ``alice:weight=2,priority=1,share=3,key=SECRET``."""

from dataclasses import dataclass

from pydantic import SecretStr

OPTIONS = {"weight", "priority", "share", "key", "service_tier"}
HELP = "NAME[:weight=W,priority=P,share=S,key=K,service_tier=T]"


@dataclass(frozen=True, slots=True)
class WorkloadTenant:
    """A tenant that owns ``share`` of the conversations. The report uses ``weight``, the service it is entitled to.

    Lower ``priority`` goes first. ``key`` is its API key; None stands for the run's. ``service_tier`` goes into its
    requests: *flex* is background work.
    """

    name: str
    weight: float = 1.0
    priority: int = 0
    share: float = 1.0
    key: SecretStr | None = None
    service_tier: str | None = None


def parse_tenant(spec: str) -> WorkloadTenant:
    """Read a tenant. Raises a ValueError that says what is wrong."""
    name, _, rest = spec.partition(":")
    pairs = [pair.partition("=") for pair in rest.split(",") if pair]
    values = {key: value for key, _, value in pairs}
    unknown = set(values) - OPTIONS
    if not name or unknown or len(values) != len(pairs):
        raise ValueError(f"not a tenant: {HELP}")
    try:
        weight, share = float(values.get("weight", 1)), float(values.get("share", 1))
        priority = int(values.get("priority", 0))
    except ValueError:
        raise ValueError(f"tenant {name}: weight and share are numbers, priority is a whole one") from None
    if not (weight > 0 and share > 0):
        raise ValueError(f"tenant {name}: weight and share are above 0")
    key = SecretStr(values["key"]) if "key" in values else None
    return WorkloadTenant(name, weight, priority, share, key, values.get("service_tier"))
