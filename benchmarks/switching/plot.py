"""docs/switching.svg: goodput by preset, beside the megabytes that were copied out for it."""

import io
from statistics import fmean
from typing import TYPE_CHECKING, Any

from benchmarks.switching.comparison import GOODPUT
from benchmarks.switching.matrix import VARIANTS
from benchmarks.switching.selection import Runs, links, means

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#3b6ea8", "#c98b3c")
LINKS = {None: "both pools in the machine's memory", "pcie4": "emulated PCIe 4.0 link"}
PANELS = (
    (GOODPUT, 1.0, "turns a second within the SLO (longer is better)"),
    ("bytes_out", 1e-6, "MB copied out in a run (shorter is better)"),
)
STYLE: dict[str, Any] = {"svg.fonttype": "none", "svg.hashsalt": "fastswitch", "font.size": 10}


def draw(runs: Runs) -> str:
    """Return the plot as SVG: bars are means over the schedules with updates, dots are single schedules."""
    import matplotlib as mpl  # noqa: PLC0415 - optional, and heavy
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.5, 3.8), layout="constrained", facecolor="white")
        axes = figure.subplots(1, len(PANELS), sharey=True)
        for each, (name, scale, label) in zip(axes, PANELS, strict=True):
            _draw_panel(each, runs, name, scale)
            each.set_xlabel(label)
        axes[0].set_yticks(range(len(VARIANTS)), VARIANTS)
        axes[0].invert_yaxis()
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        figure.get_layout_engine().set(w_pad=0.1)
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return " ".join(line.strip() for line in drawn.getvalue().splitlines()) + "\n"


def _draw_panel(axes: "Axes", runs: Runs, figure: str, scale: float) -> None:
    shown = links(runs)
    height = 0.8 / len(shown)
    for index, link in enumerate(shown):
        found = [list(means(runs, variant, link, figure).values()) for variant in VARIANTS]
        at = [row + (index - (len(shown) - 1) / 2) * height for row in range(len(VARIANTS))]
        widths = [scale * fmean(each) if each else 0.0 for each in found]
        axes.barh(at, widths, height, color=COLOURS[index], alpha=0.55, label=LINKS[link])
        x, y = zip(*((scale * value, row) for row, each in zip(at, found, strict=True) for value in each), strict=True)
        axes.plot(x, y, "o", color=COLOURS[index], markersize=2.5)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
