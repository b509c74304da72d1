"""Metrics of each tenant. The label takes names from the operator's key file only, so there are few series."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True, slots=True)
class TenantMeter:
    """The series of one tenant."""

    prompt_tokens: Counter
    generated: Counter
    service: Counter
    open_requests: Gauge
    waiting: Gauge
    open_sessions: Gauge


class TenantMetrics:
    """The series of all tenants; there are none while no keys are configured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fastswitch_tenant_{name}", text, ("tenant", *labels), registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastswitch_tenant_{name}", text, ("tenant",), registry=registry)

        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens charged to a tenant.")
        self._generated = counter("generation_tokens", "Tokens generated for a tenant.")
        self._service = counter(
            "service", "Service that a tenant got: prompt tokens computed and twice the tokens drawn."
        )
        self._preempted = counter("preemptions", "Preemptions of a tenant's requests, by reason.", "reason")
        self._limited = counter("limited", "Requests that a tenant's own limits refused, by error code.", "code")
        self._open = gauge("open_requests", "Requests of a tenant that are being prepared, queued or answered.")
        self._waiting = gauge("waiting_requests", "Answers of a tenant that wait for their first step.")
        self._sessions = gauge("open_sessions", "WebSocket sessions of a tenant that are open.")

    def meter(self, tenant: str) -> TenantMeter:
        """Return the series of a tenant, which are shown from now on even while they are 0."""
        return TenantMeter(
            prompt_tokens=self._prompt_tokens.labels(tenant),
            generated=self._generated.labels(tenant),
            service=self._service.labels(tenant),
            open_requests=self._open.labels(tenant),
            waiting=self._waiting.labels(tenant),
            open_sessions=self._sessions.labels(tenant),
        )

    def preempted(self, tenant: str, reason: str) -> None:
        """Count a preemption of a tenant's request."""
        self._preempted.labels(tenant, reason).inc()

    def limited(self, tenant: str, code: str) -> None:
        """Count a request that one of the tenant's limits refused."""
        self._limited.labels(tenant, code).inc()
