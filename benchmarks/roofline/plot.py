"""docs/roofline.svg: operations a second over operations a byte, under the limits of this machine."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.roofline.page import SHORTEST
from benchmarks.switching.plot import STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CEILINGS = {"bytes": "dot products of bytes", "pairs": "of bfloat16", "floats": "float32"}
COLOURS = {"bytes": "#3b6ea8", "pairs": "#c98b3c", "floats": "#6b8e4e"}
MARKERS = {"products": "o", "attention": "s", "other": "."}
KINDS = {"attention": "attention", "rotary": "other", "norm": "other", "silu": "other", "embedding": "other"}
LEAST, MOST = 0.05, 2000  # operations a byte


def draw(figures: Mapping[str, Any]) -> str:
    """Return the plot as SVG: a panel for each model, a point for each kind of operation in each step."""
    import matplotlib as mpl  # noqa: PLC0415 - optional, and heavy
    from matplotlib.figure import Figure  # noqa: PLC0415

    drawn = io.StringIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.6), layout="constrained", facecolor="white")
        panels = figure.subplots(1, len(figures["models"]), sharey=True, squeeze=False)[0]
        for axes, (name, steps) in zip(panels, figures["models"].items(), strict=True):
            _draw_limits(axes, figures["limits"])
            _draw_points(axes, steps)
            axes.set(
                xscale="log", yscale="log", xlim=(LEAST, MOST), ylim=(0.3, None), title=name, xlabel="operations a byte"
            )
        panels[0].set_ylabel("G operations a second")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return " ".join(line.strip() for line in drawn.getvalue().splitlines()) + "\n"


def _draw_limits(axes: "Axes", limits: Mapping[str, float]) -> None:
    x = np.geomspace(LEAST, MOST, 200)
    for unit, label in CEILINGS.items():
        axes.plot(x, np.minimum(x * limits["read"], limits[unit]) / 1e9, color=COLOURS[unit], linewidth=1, label=label)


def _draw_points(axes: "Axes", steps: Mapping[str, Any]) -> None:
    labelled = set()
    for number, step in enumerate(steps.values()):
        shade = 0.3 + 0.7 * number / max(1, len(steps) - 1)
        for kind, each in step["kinds"].items():
            if each["ms"] < SHORTEST:
                continue
            group = KINDS.get(kind, "products")
            colour = COLOURS["pairs" if group == "attention" else "floats" if group == "other" else "bytes"]
            label = None if group in labelled else group
            labelled.add(group)
            axes.plot(
                1e3 * each["giga_operations"] / each["megabytes"],
                1e3 * each["giga_operations"] / each["ms"],
                MARKERS[group],
                color=colour,
                alpha=shade,
                label=label,
            )
