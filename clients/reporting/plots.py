"""The plots of a page. Each shows one run, or several runs over each other."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from clients.report import Run, TurnRecord
from clients.reporting.figure import INK, QUIET, add_legend, drawing, format_axis, new_figure, series_colour, to_svg
from clients.reporting.measures import answered, e2e_s, gaps_s, measured, ttft_s
from clients.reporting.series import (
    DOTS,
    cumulative,
    service_over_time,
    tokens_in_flight,
    ttft_all,
    ttft_dots,
    ttft_over_time,
)
from clients.reporting.slo import Slo
from clients.reporting.statistics import Share, Summary, group_by_tenant
from clients.reporting.tables import tenant_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Runs = Mapping[str, Run]  # by their names in the legend
MOST_TENANTS = 8  # more lines are hard to distinguish
SHORTEST_S = 1e-4  # shorter gaps are between pieces of one packet: nothing to see there
WIDEST = 1e5  # ratio of the ends of an axis
CDF_CAPTIONS = {
    "ttft": "From when the turn was due to the first piece of its answer.",
    "tbt": "Gaps between pieces of an answer, over all turns.",
    "e2e": "From when the turn was due to its end; turns that ended well.",
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot whose ``caption`` says what it shows. ``svg`` is made here and safe to put into a page as it is."""

    name: str
    title: str
    caption: str
    svg: str


def plots(summary: Summary) -> list[Plot]:
    """Return all plots of one run. Raises `PlottingMissingError`, as all functions here do."""
    runs, slo = {"": summary.run}, summary.goodput.slo if summary.goodput else None
    with drawing():
        found = [*cdfs(runs, slo), ttft_plot(runs, slo), service_plot(summary), in_flight_plot(runs)]
    return [plot for plot in found if plot is not None]


def overlaid(runs: Runs) -> list[Plot]:
    """Return the plots that can show several runs."""
    with drawing():
        found = [*cdfs(runs, None), ttft_plot(runs, None), in_flight_plot(runs)]
    return [plot for plot in found if plot is not None]


def cdfs(runs: Runs, slo: Slo | None) -> list[Plot | None]:
    """Plot how latencies are distributed."""
    return [
        _cdf("ttft", "Time to first token", runs, lambda turn: _if_known(ttft_s(turn)), slo.ttft_s if slo else None),
        _cdf("tbt", "Time between tokens", runs, gaps_s, None),
        _cdf("e2e", "End to end", runs, lambda turn: _if_known(e2e_s(turn)), None),
    ]


def ttft_plot(runs: Runs, slo: Slo | None) -> Plot | None:
    """Plot TTFT by when turns were due."""
    figure, axes = new_figure()
    seen = 0
    for index, (name, run) in enumerate(runs.items()):
        turns, colour = measured(run), series_colour(index)
        seen += ttft_all(turns)[0].size
        if len(runs) == 1:
            axes.plot(*ttft_dots(turns), ".", color=colour, markersize=6, markeredgewidth=0, alpha=0.4)
        axes.plot(*ttft_over_time(turns, 0.5), color=colour, label=f"{name} P50".strip())
        axes.plot(*ttft_over_time(turns, 0.9), "--", color=colour, label=f"{name} P90".strip())
        _mark_saturation(axes, run)
    if not seen:
        return None
    if slo and slo.ttft_s:
        axes.axhline(slo.ttft_s, color=INK, linewidth=1, linestyle=":", label="SLO")
    axes.set_yscale("log")
    format_axis(axes.yaxis, "s")
    axes.set_xlabel("turn due, s since the start")
    add_legend(axes)
    caption = "Percentiles over parts of the time"
    caption += f", and a dot a turn (at most {DOTS:,} drawn)." if len(runs) == 1 else "."
    return _finished(figure, "ttft-over-time", "TTFT over time", caption)


def service_plot(summary: Summary) -> Plot | None:
    """Plot the accumulated service of each tenant."""
    if not summary.tenants or not any(share.weighted for share in summary.tenants):
        return None
    figure, axes = new_figure()
    shown = _extremes(summary.tenants)
    turns = group_by_tenant(measured(summary.run))
    for index, share in enumerate(shown):
        at, service = service_over_time(turns[share.tenant], share.weight)
        axes.step(
            at,
            service,
            where="post",
            color=series_colour(index),
            linestyle=_dashes(index),
            label=tenant_name(share.tenant),
        )
    axes.set_xlabel("s since the start")
    format_axis(axes.yaxis)
    if len(shown) > 1:
        add_legend(axes)
    caption = "Accumulated: 1 a new prompt token, 2 a token of the answer, over the tenant's weight."
    if len(shown) < len(summary.tenants):
        caption += f" The {len(shown)} tenants who got most and least of {len(summary.tenants)}."
    return _finished(figure, "service", "Service by tenant", caption)


def in_flight_plot(runs: Runs) -> Plot | None:
    """Plot the load on the server as its clients see it."""
    figure, axes = new_figure()
    for index, (name, run) in enumerate(runs.items()):
        at, tokens = tokens_in_flight(run.records)
        if not at.size:
            return None
        axes.step(at, tokens, where="post", color=series_colour(index), label=name)
        _mark_saturation(axes, run)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("s since the start")
    format_axis(axes.yaxis)
    if len(runs) > 1:
        axes.legend()
    caption = (
        "Prompt and answer so far of all turns sent and not ended, warm-up too; the peak of each part of the time."
    )
    return _finished(figure, "in-flight", "Tokens in flight", caption)


def _cdf(
    name: str, title: str, runs: Runs, samples_of: Callable[[TurnRecord], Iterable[float]], bound: float | None
) -> Plot | None:
    figure, axes = new_figure()
    lowest, highest = np.inf, 0.0
    for index, (label, run) in enumerate(runs.items()):
        turns = [turn for turn in measured(run) if answered(turn)]
        values, shares = cumulative(chain.from_iterable(samples_of(turn) for turn in turns))
        if not values.size or values[-1] <= 0:
            continue
        axes.step(values, shares, where="post", color=series_colour(index), linestyle=_dashes(index), label=label)
        lowest, highest = min(lowest, float(np.percentile(values, 1))), max(highest, float(values[-1]))
    if highest <= 0:
        return None
    if bound:
        axes.axvline(bound, color=INK, linewidth=1, linestyle=":", label="SLO")
    axes.set_xscale("log")
    highest = max(highest, bound or 0.0)
    axes.set_xlim(max(lowest, SHORTEST_S, highest / WIDEST) * 0.9, highest * 1.1)
    axes.set_ylim(0, 1.02)
    format_axis(axes.xaxis, "s")
    axes.set_ylabel("share of " + ("gaps" if name == "tbt" else "turns"))
    if bound or len(runs) > 1:
        axes.legend(loc="lower right")
    return _finished(figure, f"cdf-{name}", title, CDF_CAPTIONS[name])


def _finished(figure: "Figure", name: str, title: str, caption: str) -> Plot:
    return Plot(name, title, caption, to_svg(figure, name, f"{title}. {caption}"))


def _mark_saturation(axes: "Axes", run: Run) -> None:
    if run.saturated_at_s is not None:
        axes.axvline(run.saturated_at_s, color=QUIET, linestyle="-.", linewidth=1, label="falls behind")


def _dashes(index: int) -> str:
    """Return a line style, so that lines differ without colours too."""
    return ("-", "--", ":", "-.")[index % 4]


def _extremes(tenants: Sequence[Share]) -> list[Share]:
    ranked = sorted(tenants, key=lambda share: (-share.weighted, share.tenant))
    return ranked if len(ranked) <= MOST_TENANTS else ranked[: MOST_TENANTS // 2] + ranked[-MOST_TENANTS // 2 :]


def _if_known(value: float | None) -> Sequence[float]:
    return () if value is None else (value,)
