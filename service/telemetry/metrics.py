"""The metrics that Prometheus reads. They only observe: nothing in the service depends on them.

Each server has a registry of its own, so that two servers in one process, as in tests, stay apart. Labels take values
from closed sets only: reasons, error codes, routes, status codes. docs/metrics.md is the catalogue.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from service.core.messages.events import (
    Event,
    Finished,
    FinishReason,
    Gauges,
    Refused,
    SessionDropped,
    Snapshot,
    Started,
    StepDone,
    TokenOut,
)
from service.telemetry.devices import DeviceMetrics
from service.telemetry.fairness import FairnessMetrics
from service.telemetry.sharing import SharingMetrics
from service.telemetry.switches import SwitchMetrics
from service.telemetry.tenants import TenantMetrics

# Seconds. Request times reach from an idle server's to a long queue's, step times from a GPU's to a CPU's.
TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
GAP_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 40)
E2E_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
QUEUE_BUCKETS = (0.001, 0.01, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
STEP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
OVERHEAD_BUCKETS = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25)
LAG_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1)


disable_created_metrics()  # type: ignore[no-untyped-call]  # a second, unused series for each metric


class Metrics:
    """All metrics of one server. `observe` belongs to one thread, since the order of events matters.

    ``block_bytes``: of a KV block, 0 before that is known.
    """

    def __init__(self, block_bytes: int = 0) -> None:
        self.registry = CollectorRegistry()
        self._state = _StateGauges(self.registry)
        self._requests = _RequestMetrics(self.registry)
        self._steps = _StepMetrics(self.registry)
        self._switches = SwitchMetrics(self.registry, block_bytes)
        self._sharing = SharingMetrics(self.registry)
        self._fairness = FairnessMetrics(self.registry)
        self._edge = _EdgeMetrics(self.registry)
        self.device = DeviceMetrics(self.registry)
        self.tenants = TenantMetrics(self.registry)
        ProcessCollector(registry=self.registry)

    def observe(self, event: Event) -> None:
        """Account for one of core's or the engine's events."""
        self._switches.observe(event)
        self._sharing.observe(event)
        match event:
            case StepDone():
                self._steps.observe(event)
                self._show(event.gauges)
            case Gauges():
                self._show(event)
            case Snapshot():
                pass  # an answer to a question, not an event
            case _:
                self._requests.observe(event)

    def http_answered(self, route: str, method: str, status: int) -> None:
        """Count an HTTP answer; ``route`` is the pattern it matched, never the path."""
        self._edge.http_requests.labels(route, method, str(status)).inc()

    def loop_lagged(self, seconds: float) -> None:
        """Record how late the event loop ran a timer."""
        self._edge.loop_lag.observe(seconds)

    def websocket_opened(self) -> None:
        """Count a WebSocket connection that was accepted."""
        self._edge.connections.inc()

    def websocket_closed(self) -> None:
        """Count a WebSocket connection that ended."""
        self._edge.connections.dec()

    def chat_reopened(self) -> None:
        """Count a client that came back to its session."""
        self._edge.reconnects.inc()

    def count_chat_sessions(self, sessions: int) -> None:
        """Set the number of conversations that the API keeps."""
        self._edge.chat_sessions.set(sessions)

    def set_capacity(self, blocks: int, host_blocks: int = 0) -> None:
        """Set the numbers of blocks, before the first step reports them."""
        self._state.blocks_total.set(blocks)
        self._switches.host_total.set(host_blocks)

    def exposition(self) -> bytes:
        """Return the text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _show(self, gauges: Gauges) -> None:
        self._state.show(gauges)
        self._switches.show(gauges)
        self._sharing.show(gauges)
        self._fairness.show(gauges)


class _StateGauges:
    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastswitch_{name}", text, registry=registry)

        self.running = gauge("num_requests_running", "Requests in the batch.")
        self.waiting = gauge("num_requests_waiting", "Requests that wait for their first step.")
        self.preempted = gauge("num_requests_preempted", "Preempted requests that wait to be resumed.")
        self.idle_sessions = gauge("idle_sessions", "Conversations between turns that keep their KV.")
        self.usage = gauge("kv_cache_usage_ratio", "Share of the device's KV blocks that hold KV, 0 to 1.")
        self.blocks_total = gauge("kv_blocks_total", "KV blocks of 16 tokens on the device.")
        self.blocks_used = gauge("kv_blocks_used", "KV blocks that hold KV, of requests and of idle sessions.")
        self.largest_free = gauge("kv_largest_free_blocks", "KV blocks of the device's longest free extent.")
        self.blocks_reserved = gauge(
            "kv_blocks_reserved", "KV blocks reserved for growth; released when other requests need them."
        )

    def show(self, gauges: Gauges) -> None:
        self.running.set(gauges.running)
        self.waiting.set(gauges.waiting)
        self.preempted.set(gauges.preempted)
        self.idle_sessions.set(gauges.idle_sessions)
        self.blocks_total.set(gauges.blocks_total)
        self.blocks_used.set(gauges.blocks_used)
        self.blocks_reserved.set(gauges.blocks_reserved)
        self.largest_free.set(gauges.largest_free)
        self.usage.set(gauges.blocks_used / gauges.blocks_total if gauges.blocks_total else 0.0)


class _RequestMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"fastswitch_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"fastswitch_{name}", text, buckets=buckets, registry=registry)

        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens of requests that ended.")
        self.generated = counter("generation_tokens", "Tokens generated.")
        self.recomputed = counter("recomputed_tokens", "Tokens whose KV was computed again after a preemption.")
        self.ended = counter("request_success", "Requests that ended, by reason.", "finished_reason")
        self.refused = counter("requests_refused", "Requests that core refused, by error code.", "code")
        self.dropped = counter("sessions_dropped", "Idle conversations that lost their KV, by reason.", "reason")
        self.ttft = histogram("time_to_first_token_seconds", "From arrival to the first token.", TTFT_BUCKETS)
        self.gaps = histogram(
            "time_between_tokens_seconds", "Between a request's tokens, stalls included.", GAP_BUCKETS
        )
        self.e2e = histogram("e2e_request_latency_seconds", "From arrival to the end.", E2E_BUCKETS)
        self.queue = histogram("request_queue_time_seconds", "From arrival to the first step.", QUEUE_BUCKETS)
        for counted, values in (
            (self.ended, tuple(FinishReason)),
            (
                self.refused,
                (
                    *("invalid_request_error", "kv_capacity_exceeded", "session_busy"),
                    *("server_overloaded", "queue_timeout"),
                ),
            ),
            (self.dropped, ("room", "expired", "limit", "closed", "failure")),
        ):
            for value in values:  # zero is a value: rates need a first sample
                counted.labels(value)

    def observe(self, event: Event) -> None:
        match event:
            case TokenOut(index=index, gap_s=gap_s):
                self.generated.inc()
                (self.gaps if index else self.ttft).observe(gap_s)
            case Started(queue_s=queue_s):
                self.queue.observe(queue_s)
            case Refused(code=code):
                self.refused.labels(code).inc()
            case SessionDropped(reason=reason):
                self.dropped.labels(reason).inc()
            case Finished():
                self._finish(event)

    def _finish(self, event: Finished) -> None:
        self.ended.labels(event.reason.value).inc()
        self.prompt_tokens.inc(event.usage.prompt)
        self.recomputed.inc(event.usage.recomputed)
        self.e2e.observe(event.timings.e2e_s)


class _StepMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"fastswitch_{name}", text, buckets=buckets, registry=registry)

        self.step = histogram("step_seconds", "Planning, running and committing a step.", STEP_BUCKETS)
        self.plan = histogram("plan_seconds", "Planning a step.", OVERHEAD_BUCKETS)
        self.commit = histogram("commit_seconds", "Committing a step.", OVERHEAD_BUCKETS)
        self.device = histogram("device_seconds", "Running a step on the device.", STEP_BUCKETS)
        self.idle = Counter(
            "fastswitch_device_idle_seconds", "Time that the device waited although there was work.", registry=registry
        )
        self.host = Counter(
            "fastswitch_host_seconds",
            "Time of steps on the device outside the forward pass and the draw; on a CPU only.",
            registry=registry,
        )
        self.tokens = Counter(
            "fastswitch_computed_tokens", "Query tokens computed, by phase.", ("phase",), registry=registry
        )
        for phase in ("prefill", "decode"):
            self.tokens.labels(phase)  # zero is a value too

    def observe(self, done: StepDone) -> None:
        self.step.observe(done.plan_s + done.device_s + done.commit_s)
        self.plan.observe(done.plan_s)
        self.commit.observe(done.commit_s)
        self.device.observe(done.device_s)
        self.idle.inc(done.idle_s)
        self.host.inc(done.host_s)
        self.tokens.labels("prefill").inc(done.prefill_tokens)
        self.tokens.labels("decode").inc(done.decode_tokens)


class _EdgeMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.http_requests = Counter(
            "fastswitch_http_requests",
            "HTTP requests answered; status 499 means that the client left first.",
            ("route", "method", "status"),
            registry=registry,
        )
        self.connections = Gauge(
            "fastswitch_websocket_connections", "WebSocket connections that are open.", registry=registry
        )
        self.chat_sessions = Gauge(
            "fastswitch_chat_sessions",
            "WebSocket conversations whose history is kept, connected or not.",
            registry=registry,
        )
        self.reconnects = Counter(
            "fastswitch_chat_reconnects", "Times that a client came back to its conversation.", registry=registry
        )
        self.loop_lag = Histogram(
            "fastswitch_event_loop_lag_seconds",
            "How late the event loop ran a timer.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
