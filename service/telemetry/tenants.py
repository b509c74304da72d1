"""What Prometheus sees of each tenant. The label takes names from the operator's key file only, so it stays small."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge


@dataclass(frozen=True, slots=True)
class TenantMeter:
    """One tenant's series."""

    prompt_tokens: Counter
    generated: Counter
    open_requests: Gauge
    waiting: Gauge
    open_sessions: Gauge


class TenantMetrics:
    """All tenants' series, none while no keys are configured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fastswitch_tenant_{name}", text, ("tenant", *labels), registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastswitch_tenant_{name}", text, ("tenant",), registry=registry)

        self._prompt_tokens = counter("prompt_tokens", "Prompt tokens charged to a tenant.")
        self._generated = counter("generation_tokens", "Tokens generated for a tenant.")
        self._preempted = counter("preemptions", "Times that a tenant's request lost its place, by reason.", "reason")
        self._limited = counter("limited", "Requests that a tenant's own limits turned away, by error code.", "code")
        self._open = gauge("open_requests", "Requests of a tenant that are being prepared, queued or answered.")
        self._waiting = gauge("waiting_requests", "Answers of a tenant that wait for their first step.")
        self._sessions = gauge("open_sessions", "WebSocket sessions of a tenant that are open.")

    def meter(self, tenant: str) -> TenantMeter:
        """The series of a tenant, from now on shown even while they are 0."""
        return TenantMeter(
            prompt_tokens=self._prompt_tokens.labels(tenant),
            generated=self._generated.labels(tenant),
            open_requests=self._open.labels(tenant),
            waiting=self._waiting.labels(tenant),
            open_sessions=self._sessions.labels(tenant),
        )

    def preempted(self, tenant: str, reason: str) -> None:
        """A running request of the tenant lost its place."""
        self._preempted.labels(tenant, reason).inc()

    def limited(self, tenant: str, code: str) -> None:
        """A limit of the tenant's own turned a request away."""
        self._limited.labels(tenant, code).inc()
