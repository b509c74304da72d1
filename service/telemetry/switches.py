"""Metrics of context switches: preemptions, copies between the KV pools, and what they cost."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.core.messages.events import (
    Compacted,
    Contaminated,
    CopyEnded,
    CopyStarted,
    Event,
    Gauges,
    KVDropped,
    Preempted,
    Resumed,
    ShadowSwitched,
    StepDone,
)

# Seconds. The shortest switch is a copy over a GPU's link, the longest a long prompt recomputed on a CPU.
SWITCH_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
STALL_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160)
BLOCKS_BUCKETS = (0.02, 0.1, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256)

DIRECTIONS = ("out", "in")
PREEMPTIONS = ("slot", "room", "growth", "failure", "debug")
DROPS = ("no_swap", "host_full", "copy_failed", "link_busy", "failure")


class SwitchMetrics:
    """The metrics of switches. ``block_bytes``: of a KV block."""

    def __init__(self, registry: CollectorRegistry, block_bytes: int) -> None:
        def counter(name: str, text: str, label: str | None = None, values: tuple[str, ...] = ()) -> Counter:
            made = Counter(f"fastswitch_{name}", text, () if label is None else (label,), registry=registry)
            for value in values:  # zero is a value: rates need a first sample
                made.labels(value)
            return made

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"fastswitch_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"fastswitch_{name}", text, registry=registry)

        self._block_bytes = block_bytes
        self._updates_seen = 0
        self.preemptions = counter(
            "num_preemptions", "Preemptions of running requests, by reason.", "reason", PREEMPTIONS
        )
        self.switch = histogram(
            "switch_seconds", "From when a preempted request is due to run to when it runs.", SWITCH_BUCKETS
        )
        self.stall = histogram("stall_seconds", "How long a preempted request was out of the batch.", STALL_BUCKETS)
        self.copies = counter("swap_copies", "Contiguous copies between the KV pools.", "direction", DIRECTIONS)
        self.bytes = counter("swap_bytes", "Bytes copied between the KV pools.", "direction", DIRECTIONS)
        self.blocks_per_copy = histogram(
            "swap_blocks_per_copy", "Blocks in a contiguous copy, mean of each swap.", BLOCKS_BUCKETS, "direction"
        )
        for direction in DIRECTIONS:
            self.blocks_per_copy.labels(direction)
        self.failures = counter("swap_failures", "Swaps that failed.", "direction", DIRECTIONS)
        self.busy = counter("link_busy_seconds", "Time spent on copies; its rate is the load.", "direction", DIRECTIONS)
        self.reused = counter(
            "swap_reused_blocks", "Blocks not copied by a swap, since the other side had them.", "direction", DIRECTIONS
        )
        self.contaminated = counter("contaminated_blocks", "Blocks of host copies dropped to free host blocks.")
        self.compacted = counter("compacted_blocks", "Blocks moved inside the device pool to join free ones.")
        self.dropped = counter(
            "kv_dropped_tokens", "Tokens whose KV was dropped and must be computed again, by reason.", "reason", DROPS
        )
        self.updates = counter("priority_updates", "Steps before which the order of the older requests changed.")
        self.shadow_preemptions = counter("shadow_preemptions", "Preemptions that the shadow policy would have caused.")
        self.shadow_bytes = counter("shadow_swap_bytes", "Bytes that the shadow policy would have swapped out.")
        self.copy_wait = counter("copy_wait_seconds", "Time that the device waited for copies.")
        self.swap_overhead = counter("swap_manager_seconds", "Time the engine spent on starting and ending copies.")
        self.swapped = gauge("num_requests_swapped", "Preempted requests whose KV is not all on the device.")
        self.in_flight = gauge("swaps_in_flight", "Swaps under way.")
        self.host_total = gauge("host_kv_blocks_total", "KV blocks of 16 tokens on the host.")
        self.host_used = gauge("host_kv_blocks_used", "KV blocks on the host that hold a copy.")

    def show(self, gauges: Gauges) -> None:
        """Show the current state."""
        self.swapped.set(gauges.swapped)
        self.in_flight.set(gauges.copies_in_flight)
        self.host_total.set(gauges.host_blocks_total)
        self.host_used.set(gauges.host_blocks_used)
        self.updates.inc(gauges.priority_updates - self._updates_seen)
        self._updates_seen = gauges.priority_updates

    def observe(self, event: Event) -> None:
        """Account for an event; those that do not concern switches are ignored."""
        match event:
            case StepDone():
                self.copy_wait.inc(event.copy_wait_s)
                self.swap_overhead.inc(event.swap_s)
            case Preempted(reason=reason):
                self.preemptions.labels(reason).inc()
            case Resumed():
                self.stall.observe(event.parked_s)
                self.switch.observe(event.switch_s)
            case CopyStarted():
                self.reused.labels(event.direction).inc(event.reused)
            case CopyEnded():
                self._copy_ended(event)
            case Contaminated(blocks=blocks):
                self.contaminated.inc(blocks)
            case Compacted(blocks=blocks):
                self.compacted.inc(blocks)
            case KVDropped(reason=reason, tokens=tokens):
                self.dropped.labels(reason).inc(tokens)
            case ShadowSwitched():
                self.shadow_preemptions.inc(event.preemptions)
                self.shadow_bytes.inc(event.blocks * self._block_bytes)

    def _copy_ended(self, copy: CopyEnded) -> None:
        self.busy.labels(copy.direction).inc(copy.seconds)
        if copy.failed:
            self.failures.labels(copy.direction).inc()
            return
        self.copies.labels(copy.direction).inc(copy.pieces)
        self.bytes.labels(copy.direction).inc(copy.blocks * self._block_bytes)
        self.blocks_per_copy.labels(copy.direction).observe(copy.blocks / copy.pieces)
