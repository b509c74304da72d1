"""Metrics of fairness: what waits and why, and how far tenants are apart. Service by tenant is in `tenants`."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.core.messages.events import Gauges

WAITING_FOR = ("slot", "room", "step")  # as in `RequestView.because` of a waiting request


class FairnessMetrics:
    """The metrics of fairness. All of them come with `Gauges`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"fastswitch_{name}", text, labels, registry=registry)

        self._excluded_seen_s = 0.0
        self.waiting = gauge(
            "num_requests_waiting_by_reason",
            "Requests that wait for their first step, by what they wait for: all of them for the same.",
            "reason",
        )
        self.waiting_tokens = gauge("num_prompt_tokens_waiting", "Prompt tokens of the requests that wait.")
        self.gap = gauge(
            "fairness_gap",
            "Largest difference of the services over their weights that two backlogged tenants have got.",
        )
        self.bound = gauge(
            "fairness_bound", "What the policy promises that the gap never exceeds; 0 if it promises nothing."
        )
        self.excluded = Counter(
            "fastswitch_fairness_excluded_seconds",
            "Time that backlogged tenants were left out of the gap because their requests did not fit.",
            registry=registry,
        )
        self._show_waiting(0, None)

    def show(self, gauges: Gauges) -> None:
        """Show the current state."""
        self._show_waiting(gauges.waiting, gauges.waiting_for)
        self.waiting_tokens.set(gauges.waiting_tokens)
        self.gap.set(gauges.fairness_gap)
        self.bound.set(gauges.fairness_bound)
        self.excluded.inc(gauges.fairness_excluded_s - self._excluded_seen_s)
        self._excluded_seen_s = gauges.fairness_excluded_s

    def _show_waiting(self, waiting: int, waiting_for: str | None) -> None:
        for reason in WAITING_FOR:
            self.waiting.labels(reason).set(waiting if reason == waiting_for else 0)
