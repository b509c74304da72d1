"""docs/switching-cells.md, the appendix of docs/switching.md: the figures of every cell."""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from benchmarks.switching.comparison import GOODPUT
from benchmarks.switching.matrix import COPYING, NEVER, VARIANTS
from benchmarks.switching.selection import Runs, links, mean, runs_of, schedules, table

HEAD = """\
# Switching: every cell

The appendix of [switching.md](switching.md), made of the same result. Figures are means over the seeds. Brackets hold
the 95 % interval of a figure's ratio to `groups+reuse+async` (for goodput the difference in turns a second), by paired
bootstrap over the conversations of all seeds. It says what other conversations would give, not what another run would.

`never` is first come, first served. The runs of `fixed-cap` are the same under every schedule, and those of
`vllm-recompute` the same on either link. *others*: the share of the machine's processor time that other processes took.
The more they took, the worse and the noisier is every figure.
"""
LINKS = {None: "Both pools in this machine's memory", "pcie4": "Emulated link: PCIe 4.0"}
NAMES = ("schedule", "preset")
USERS = ("TTFT P50 s", "P95", "P99", "TBT P50 ms", "P99", "P99.9", "goodput /s", "SLO met", "tokens/s", "errors")
USERS_FIGURES = (
    *((f"ttft_p{quantile}_s", 1.0, ".2f") for quantile in (50, 95, 99)),
    *((f"tbt_p{quantile}_s", 1e3, ".0f") for quantile in (50, 99, 99.9)),
    (GOODPUT, 1.0, ".2f"),
    ("slo_met_share", 1.0, ".0%"),
    ("output_tokens_per_s", 1.0, ".0f"),
)
SERVER_FIGURES = {
    "preempted": ("preempted_share", 1.0, ".0%"),
    "updates /s": ("priority_updates_per_s", 1.0, ".2f"),
    "out MB": ("bytes_out", 1e-6, ",.0f"),
    "in MB": ("bytes_in", 1e-6, ",.0f"),
    "blocks a copy, out": ("blocks_per_copy_out", 1.0, ".3g"),
    "in": ("blocks_per_copy_in", 1.0, ".3g"),
    "recomputed tokens": ("recomputed_tokens", 1.0, ",.0f"),
    "stall": ("stall_share", 1.0, ".2%"),
    "swap manager": ("swap_overhead_share", 1.0, ".2%"),
    "all managers": ("manager_overhead_share", 1.0, ".2%"),
    "step ms": ("step_ms", 1.0, ".0f"),
    "ms a token": ("token_ms", 1.0, ".2f"),
    "others": ("others_cpu_share", 1.0, ".0%"),
}


def render_cells(figures: dict[str, Any]) -> str:
    """Return the appendix."""
    return "\n".join([HEAD, *_noise(figures), *_below(figures), *_reuse(figures), *_cells(figures)])


def _noise(figures: dict[str, Any]) -> Iterator[str]:
    yield "## Noise\n"
    if disturbed := sum(each["disturbed"] for each in figures["comparisons"]):
        yield (
            f"- {disturbed} of {len(figures['comparisons'])} comparisons with `groups+reuse+async` say nothing about "
            "latencies and goodput, because other processes took over 10 % of the machine during one of the runs or "
            "both. They are in the tables and need to be made again."
        )
    yield from _spread(figures["runs"])
    for found in figures["goodput_by_speed"]:
        yield (
            f"- In the {found['runs']} runs {'with' if found['updates'] else 'without'} updates of presets that copy, "
            "goodput went with the time that the machine took to compute a token: within a cell they correlate by "
            f"{found['correlation']:.2f}, and 1 % more time came with {-found['per_percent']:.1f} % less goodput."
        )
    yield ""


def _spread(runs: Runs) -> Iterator[str]:
    """Yield how far runs differ where presets that copy do nearly the same work: without updates."""
    alike = [run for run in runs if run["schedule"] == NEVER and run["variant"] in COPYING]
    spreads, preempted = [], [run["figures"]["preempted_share"] for run in alike]
    busy_s = [run["figures"]["link_busy_s"] for run in alike]
    for cell in {(run["link"], run["seed"]) for run in alike}:
        goodput = [run["figures"]["goodput_per_s"] for run in alike if (run["link"], run["seed"]) == cell]
        spreads.append((max(goodput) - min(goodput)) / fmean(goodput))
    if spreads:
        yield (
            f"- Without updates at most {max(preempted):.0%} of the turns are preempted, copies keep the link busy for "
            f"{max(busy_s):.1f} s of a run at most, and presets that copy do nearly the same work. Their goodput still "
            f"differs by {min(spreads):.0%} to {max(spreads):.0%} within a seed. One run a cell cannot separate a "
            "preset's part from the run's own chance, which the intervals over conversations do not contain."
        )


def _below(figures: dict[str, Any]) -> Iterator[str]:
    yield "## Cells in which `groups+reuse+async` has less goodput, beyond the interval over conversations\n"
    rows = ([*_names(each), "{:.2f} to {:.2f}".format(*_bounds(each, GOODPUT))] for each in figures["goodput_below"])
    yield table(("link", *NAMES, "turns/s less"), rows, names=3)


def _reuse(figures: dict[str, Any]) -> Iterator[str]:
    yield "## Bytes copied out with reuse, as a share of those without (`groups+reuse` over `groups`)\n"
    found = {(each["link"], each["schedule"]): f"{each['share']:.0%}" for each in figures["swap_out_with_reuse"]}
    over, names = (list(dict.fromkeys(each)) for each in zip(*found, strict=True)) if found else ([], [])
    rows = ([f"`{name}`", *(found.get((link, name), "") for link in over)] for name in names)
    yield table(("schedule", *(LINKS[link] for link in over)), rows)


def _cells(figures: dict[str, Any]) -> Iterator[str]:
    runs = figures["runs"]
    for link in links(runs):
        cells = [
            (schedule, variant, found)
            for schedule in schedules([run for run in runs if run["link"] == link])
            for variant in VARIANTS
            if (found := runs_of(runs, variant, link, schedule))
        ]
        yield f"## {LINKS[link]}\n\nWhat users see, up to *errors*, and what the server does.\n"
        yield table((*NAMES, *USERS, *SERVER_FIGURES), (_row(figures, link, *cell) for cell in cells), names=2)


def _row(
    figures: dict[str, Any], link: str | None, schedule: str, variant: str, found: list[dict[str, Any]]
) -> list[str]:
    condition = (link, schedule, variant)
    of = [each for each in figures["comparisons"] if (each["link"], each["schedule"], each["variant"]) == condition]
    cells = []
    for figure, scale, form in USERS_FIGURES:
        bounds = _bounds(of[0], figure) if of and figure in of[0]["differences"] else None
        sign = "+" if figure == GOODPUT else ""
        interval = "" if bounds is None else f" [{bounds[0]:{sign}.2f}, {bounds[1]:{sign}.2f}]"
        cells.append(f"{scale * mean(found, figure):{form}}{interval}")
    server = (f"{scale * mean(found, figure):{form}}" for figure, scale, form in SERVER_FIGURES.values())
    return [f"`{schedule}`", f"`{variant}`", *cells, str(sum(each["errors"] for each in found)), *server]


def _names(each: dict[str, Any]) -> list[str]:
    return [LINKS[each["link"]], f"`{each['schedule']}`", f"`{each['variant']}`"]


def _bounds(compared: dict[str, Any], figure: str) -> tuple[float, float] | None:
    interval = compared["differences"][figure]["interval"]
    return None if interval is None else (interval["low"], interval["high"])
