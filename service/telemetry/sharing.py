"""Metrics of reuse: KV that a prompt did not have to compute, and the prefixes that several conversations share."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.core.messages.events import Event, Finished, Gauges, PrefixDropped

KINDS = ("continued", "shared")
DROPS = ("room", "expired")


class SharingMetrics:
    """The metrics of reuse. A request counts when it ends, since what it shares may be computed while it waits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, label: str, values: tuple[str, ...]) -> Counter:
            made = Counter(f"fastswitch_{name}", text, (label,), registry=registry)
            for value in values:  # zero is a value: rates need a first sample
                made.labels(value)
            return made

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastswitch_{name}", text, registry=registry)

        self.tokens = counter(
            "reused_tokens",
            "Prompt tokens that were not computed, of requests that ended: continued from the conversation's own last "
            "turn, or shared with others.",
            "kind",
            KINDS,
        )
        self.requests = counter(
            "reusing_requests", "Requests that ended and had reused tokens of a kind.", "kind", KINDS
        )
        self.dropped = counter("prefixes_dropped", "Prefixes that nobody held and that were dropped.", "reason", DROPS)
        self.prefixes = gauge("prefixes", "Prefixes that are kept apart from the conversations that stand on them.")
        self.prefix_blocks = gauge("prefix_blocks", "KV blocks of all prefixes, computed or not.")
        self.shared_blocks = gauge("shared_blocks", "KV blocks of the prefixes on which several conversations stand.")

    def observe(self, event: Event) -> None:
        """Account for one of core's events."""
        match event:
            case Finished(usage=usage):
                for kind, tokens in zip(KINDS, (usage.continued, usage.shared), strict=True):
                    self.tokens.labels(kind).inc(tokens)
                    self.requests.labels(kind).inc(tokens > 0)
            case PrefixDropped(reason=reason):
                self.dropped.labels(reason).inc()

    def show(self, gauges: Gauges) -> None:
        """Show the current state."""
        self.prefixes.set(gauges.prefixes)
        self.prefix_blocks.set(gauges.prefix_blocks)
        self.shared_blocks.set(gauges.shared_blocks)
