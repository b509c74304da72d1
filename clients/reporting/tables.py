"""A run's figures as tables of text, which both the terminal and the page show.

Latencies are in milliseconds. ``~`` marks a percentile that depends on fewer than five samples.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from clients.report import Outcome
from clients.reporting.distribution import QUANTILES, Distribution, percentile_name
from clients.reporting.slo import Goodput, format_slo
from clients.reporting.statistics import Latencies, ServerTotals, Share, Summary

ABSENT = "-"
MARK = "~"
MOST_TENANTS = 24  # lines that the tenants' table may have


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table whose first column is text and whose others are figures. ``note`` explains what they do not say."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    @property
    def headed(self) -> bool:
        """Whether columns have names; without names the lines are pairs of a name and its value."""
        return any(self.columns)


def headlines(summary: Summary) -> list[tuple[str, str]]:
    """Return the few figures to show first."""
    flow, latency = summary.throughput, summary.latencies
    found = [
        ("output tokens/s", number(flow.output_tokens_per_s)),
        ("requests/s", number(flow.requests_per_s)),
        ("TTFT P50, ms", _quantile(latency.ttft, 0.5)),
        ("TTFT P99, ms", _quantile(latency.ttft, 0.99)),
        ("TBT P50, ms", _quantile(latency.tbt, 0.5)),
        ("TBT P99, ms", _quantile(latency.tbt, 0.99)),
        ("errors", f"{summary.outcomes[Outcome.ERROR]:,} of {summary.turns:,}"),
    ]
    if summary.goodput is not None:
        found.append(("goodput/s", number(summary.goodput.requests_per_s)))
    if summary.fairness is not None:
        found.append(("Jain's index", _index(summary.fairness.whole)))
    return found


def notices(summary: Summary) -> list[str]:
    """Return what a reader must know before believing the figures."""
    run = summary.run
    found = ["The run was interrupted: these are the figures so far."] if run.interrupted else []
    if run.saturated_at_s is not None:
        found.append(
            f"After {number(run.saturated_at_s)} s the server fell behind for good: "
            "latencies from then on say more about the run's length than about the server."
        )
    if summary.errors:
        count = summary.outcomes[Outcome.ERROR]
        found.append(f"{count:,} of {summary.turns:,} turns ended with an error. They are not in the latencies.")
    return found


def tables(summary: Summary) -> list[TextTable]:
    """Return all tables of a run that have lines."""
    every = [overview(summary), latency_table(summary.latencies)]
    if len(summary.tenants) > 1:
        every.append(tenant_table(summary))
    every += [server_table(summary.server), error_table(summary)]
    return [table for table in every if table.rows]


def overview(summary: Summary) -> TextTable:
    """Return what was run, and its main figures."""
    run, flow = summary.run, summary.throughput
    rows = [
        ("target", f"{run.target} ({run.protocol})"),
        ("model", run.model),
        ("started", run.started_at + (", interrupted" if run.interrupted else "")),
        ("measured", f"{number(summary.window_s)} s, without {summary.warmup_turns} turns of warm-up"),
        ("conversations", str(summary.conversations)),
        ("turns", _outcomes(summary)),
        ("requests/s", number(flow.requests_per_s)),
        (
            "output tokens/s",
            number(flow.output_tokens_per_s) + _without_usage(flow.without_usage),
        ),
        *_goodput_rows(summary.goodput),
        *_fairness_rows(summary),
        *_client_rows(summary),
    ]
    return TextTable("Load test", ("", ""), tuple(rows))


def latency_table(latencies: Latencies) -> TextTable:
    """Return a table with one line a latency."""
    named = (
        ("TTFT", latencies.ttft),
        ("TBT", latencies.tbt),
        ("E2E", latencies.e2e),
        ("longest stall", latencies.stall),
    )
    known = [(name, latency) for name, latency in named if latency is not None]
    rows = tuple(_distribution_row(name, latency) for name, latency in known)
    unsure = any(not each.sure for _, latency in known for each in latency.percentiles)
    note = f"{MARK} depends on fewer than five samples" if unsure else ""
    columns = ("ms", "n", "mean", *(percentile_name(quantile) for quantile in QUANTILES), "max")
    return TextTable("Latency", columns, rows, note)


def tenant_table(summary: Summary) -> TextTable:
    """Return a table with one line a tenant; of too many tenants, it shows those that got least."""
    with_slo = summary.goodput is not None
    columns = ("tenant", "weight", "turns", "errors", "tok/s", "TTFT P50", "TTFT P99", "TBT P50", "TBT P99")
    after = ("SLO met", "service") if with_slo else ("service",)
    shown = summary.tenants
    note = "Latencies in ms. Service: 1 a new prompt token, 2 an answer's token, over the weight."
    if len(shown) > MOST_TENANTS:
        shown = tuple(sorted(shown, key=lambda share: share.weighted)[:MOST_TENANTS])
        note += f" The {MOST_TENANTS} with the least of {len(summary.tenants)}."
    return TextTable("Tenants", (*columns, *after), tuple(_tenant_row(share, with_slo) for share in shown), note)


def server_table(totals: ServerTotals) -> TextTable:
    """Return what the server reports, one line a figure."""
    counts = (
        ("prompt tokens", totals.prompt_tokens),
        ("reused tokens", totals.reused),
        ("recomputed tokens", totals.recomputed),
        ("preemptions", totals.preemptions),
        ("swapped MB", None if totals.swapped_bytes is None else totals.swapped_bytes / 1e6),
    )
    waits = (("queue ms", totals.queue_s), ("stalled ms", totals.stall_s))
    rows = [(name, number(count)) for name, count in counts if count is not None]
    rows += [(name, _spread(wait)) for name, wait in waits if wait is not None]
    return TextTable("As the server reports", ("", ""), tuple(rows))


def error_table(summary: Summary) -> TextTable:
    """Return the errors by kind, the most frequent first."""
    return TextTable("Errors", ("kind", "turns"), tuple((kind, str(count)) for kind, count in summary.errors.items()))


def number(value: float) -> str:
    """Format ``value`` with at most three decimals, thousands separated, and no exponent."""
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{3 if abs(value) < 1 else 2 if abs(value) < 10 else 1}f}"


def milliseconds(seconds: float) -> str:
    """Format seconds in milliseconds."""
    return number(1000 * seconds)


def tenant_name(tenant: str) -> str:
    """Return the name to show; the tenant is empty where the workload has none."""
    return tenant or "(no name)"


def _without_usage(turns: int) -> str:
    return f" ({turns:,} turns counted in pieces: no usage reported)" if turns else ""


def _outcomes(summary: Summary) -> str:
    rest = (f"{count:,} {outcome}" for outcome, count in summary.outcomes.items() if count or outcome is Outcome.ERROR)
    return f"{summary.turns:,}: " + ", ".join(rest)


def _goodput_rows(found: Goodput | None) -> Iterable[tuple[str, str]]:
    if found is not None:
        share = ABSENT if found.attainment is None else f"{100 * found.attainment:.1f} %"
        rate = number(found.requests_per_s)
        yield "goodput", f"{rate} requests/s, {share} of {found.due:,} within {format_slo(found.slo)}"


def _fairness_rows(summary: Summary) -> Iterable[tuple[str, str]]:
    if (found := summary.fairness) is not None:
        yield "Jain's index", _index(found.whole)
        yield "  while all wanted", f"{_index(found.contended)}, {100 * found.contended_share:.0f} % of the time"


def _client_rows(summary: Summary) -> Iterable[tuple[str, str]]:
    run = summary.run
    if run.duration_s > 0:
        yield "client's CPU", f"{run.client_cpu_s / run.duration_s:.2f} cores"
    if summary.late_s is not None:
        yield "sent late, ms", _spread(summary.late_s)
    if run.saturated_at_s is not None:
        yield "saturated", f"after {number(run.saturated_at_s)} s the server fell behind for good"


def _distribution_row(name: str, latency: Distribution) -> tuple[str, ...]:
    marked = (("" if each.sure else MARK) + milliseconds(each.value) for each in latency.percentiles)
    return (name, f"{latency.n:,}", milliseconds(latency.mean), *marked, milliseconds(latency.maximum))


def _tenant_row(share: Share, with_slo: bool) -> tuple[str, ...]:
    latencies = (_quantile(latency, q) for latency in (share.latencies.ttft, share.latencies.tbt) for q in (0.5, 0.99))
    attainment = share.goodput.attainment if share.goodput else None
    met = (ABSENT if attainment is None else f"{100 * attainment:.1f} %",) if with_slo else ()
    errors = str(share.outcomes[Outcome.ERROR])
    flow = number(share.throughput.output_tokens_per_s)
    head = (tenant_name(share.tenant), f"{share.weight:g}", f"{share.turns:,}", errors, flow)
    return (*head, *latencies, *met, number(share.weighted))


def _quantile(latency: Distribution | None, quantile: float) -> str:
    if latency is None:
        return ABSENT
    each = latency.percentiles[QUANTILES.index(quantile)]
    return ("" if each.sure else MARK) + milliseconds(each.value)


def _spread(wait: Distribution) -> str:
    return f"mean {milliseconds(wait.mean)}, P99 {_quantile(wait, 0.99)}, max {milliseconds(wait.maximum)}"


def _index(value: float | None) -> str:
    return ABSENT if value is None else f"{value:.3f}"
