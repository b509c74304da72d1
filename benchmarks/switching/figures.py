"""The figures of one run, from the clients' records and the server's metrics."""

from benchmarks.record import Figures
from benchmarks.switching.session import RunResult
from clients.report import Outcome
from clients.reporting.distribution import Distribution
from clients.reporting.measures import measured
from clients.reporting.slo import Slo
from clients.reporting.statistics import Summary, summarise

TTFT_QUANTILES = (0.5, 0.95, 0.99)
TBT_QUANTILES = (0.5, 0.99, 0.999)


def figures_of(result: RunResult, slo: Slo, block_bytes: int) -> Figures:
    """Return figures whose names say the units; shares are of 1."""
    summary = summarise(result.run, slo)
    others: Figures = {"others_cpu_share": result.others_cpu_share}
    return {**_of_clients(summary), **_of_server(result.metrics, summary.window_s, block_bytes), **others}


def _of_clients(summary: Summary) -> Figures:
    turns = measured(summary.run)
    preempted = sum(bool(turn.preemptions) for turn in turns)
    assert summary.goodput is not None
    return {
        **_percentiles("ttft", summary.latencies.ttft, TTFT_QUANTILES),
        **_percentiles("tbt", summary.latencies.tbt, TBT_QUANTILES),
        "goodput_per_s": summary.goodput.requests_per_s,
        "slo_met_share": summary.goodput.attainment or 0.0,
        "requests_per_s": summary.throughput.requests_per_s,
        "output_tokens_per_s": summary.throughput.output_tokens_per_s,
        "turns": len(turns),
        "errors": summary.outcomes[Outcome.ERROR],
        "preempted_share": preempted / len(turns),
        "preemptions_per_turn": sum(turn.preemptions or 0 for turn in turns) / len(turns),
        "sent_late_p99_s": _percentile(summary.late_s, 0.99),
        "window_s": summary.window_s,
        "client_cpu_share": summary.run.client_cpu_s / summary.run.duration_s,
    }


def _of_server(grown: dict[str, float], window_s: float, block_bytes: int) -> Figures:
    def total(name: str) -> float:
        """Return the sum over all labels."""
        return sum(value for key, value in grown.items() if key.split("{")[0] == f"fastswitch_{name}")

    step_s, swap_s = total("step_seconds_sum"), total("swap_manager_seconds_total")
    plan_s, commit_s = total("plan_seconds_sum"), total("commit_seconds_sum")
    return {
        "preemptions": total("num_preemptions_total"),
        "priority_updates_per_s": total("priority_updates_total") / window_s,
        **_copies(grown, "out", block_bytes),
        **_copies(grown, "in", block_bytes),
        "link_busy_s": total("link_busy_seconds_total"),
        "recomputed_tokens": total("recomputed_tokens_total"),
        "reused_tokens": total("reused_tokens_total{kind=continued}") + total("reused_tokens_total{kind=shared}"),
        "contaminated_blocks": total("contaminated_blocks_total"),
        "stall_share": total("copy_wait_seconds_total") / window_s,
        "device_idle_share": total("device_idle_seconds_total") / window_s,
        "swap_overhead_share": swap_s / (step_s + swap_s),
        "plan_overhead_share": plan_s / (step_s + swap_s),
        "commit_overhead_share": commit_s / (step_s + swap_s),
        "manager_overhead_share": (plan_s + commit_s + swap_s) / (step_s + swap_s),
        "steps": total("step_seconds_count"),
        "step_ms": 1e3 * step_s / total("step_seconds_count"),
        "token_ms": 1e3 * total("device_seconds_sum") / total("computed_tokens_total"),
    }


def _copies(grown: dict[str, float], direction: str, block_bytes: int) -> Figures:
    moved = grown[f"fastswitch_swap_bytes_total{{direction={direction}}}"]
    copies = grown[f"fastswitch_swap_copies_total{{direction={direction}}}"]
    return {
        f"bytes_{direction}": moved,
        f"copies_{direction}": copies,
        f"blocks_per_copy_{direction}": moved / block_bytes / copies if copies else 0.0,
    }


def _percentiles(name: str, of: Distribution | None, quantiles: tuple[float, ...]) -> Figures:
    return {f"{name}_p{100 * quantile:g}_s": _percentile(of, quantile) for quantile in quantiles}


def _percentile(of: Distribution | None, quantile: float) -> float:
    values = {} if of is None else {each.quantile: each.value for each in of.percentiles}
    return values.get(quantile, float("nan"))
