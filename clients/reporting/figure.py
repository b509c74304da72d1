"""Turns Matplotlib's figures into SVG for a page, without fonts or colours of their own.

Colours are the page's CSS variables, so that one drawing suits light and dark; text stays text, in the page's font.
Matplotlib knows no CSS variables, so it draws in stand-in colours that are replaced afterwards.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from clients.errors import ClientError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

SERIES = 8  # colours of lines; the ninth line has the first colour again
WIDTH_IN, HEIGHT_IN = 5.0, 3.4  # 72 units an inch: about a phone's width, so that text is readable there
DECADE, FEW_DECADES = 10, 10**2.2

INK, QUIET, GRID = "#000001", "#000002", "#000003"
_STAND_INS = {INK: "var(--ink)", QUIET: "var(--quiet)", GRID: "var(--grid)"}
_STAND_INS.update({f"#0001{index:02x}": f"var(--series-{index})" for index in range(SERIES)})

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fastswitch",  # the same run gives the same page
    "font.size": 13,
    "text.color": INK,
    "text.parse_math": False,  # a tenant's name may have a $
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 12,
    "lines.linewidth": 1.8,
}


class PlottingMissingError(ClientError):
    """Raised if Matplotlib is not installed."""

    def __init__(self) -> None:
        super().__init__("pages with plots need matplotlib: pip install 'fastswitch[load]'")


def series_colour(index: int) -> str:
    """Return the stand-in for the page's colour of the ``index``-th line."""
    return f"#0001{index % SERIES:02x}"


@contextmanager
def drawing() -> Iterator[None]:
    """Set the style in which figures are made, filled and turned into SVG. Raises `PlottingMissingError`."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - optional, and heavy
    except ImportError:
        raise PlottingMissingError from None
    with mpl.rc_context(_STYLE):
        yield


def new_figure() -> tuple["Figure", "Axes"]:
    """Return a figure with one plot."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(WIDTH_IN, HEIGHT_IN), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.set_axisbelow(True)
    return figure, axes


def format_axis(axis: "Axis", unit: str = "") -> None:
    """Write numbers as ``20 ms`` and ``3 k``. A logarithmic axis of less than a decade becomes linear."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: PLC0415

    low, high = axis.get_view_interval()
    if axis.get_scale() == "log" and high < DECADE * low:
        (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("linear")
        axis.set_major_locator(MaxNLocator(5))
    elif axis.get_scale() == "log":
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < FEW_DECADES * low else (1,)))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(EngFormatter(unit))


def add_legend(axes: "Axes") -> None:
    """Name the lines above the plot, including those whose name begins with ``_``, which Matplotlib would hide."""
    named = [(line, label) for line in axes.lines if not re.fullmatch(r"_child\d+", label := str(line.get_label()))]
    axes.figure.legend([line for line, _ in named], [label for _, label in named], loc="outside upper left", ncols=3)


def to_svg(figure: "Figure", name: str, description: str) -> str:
    """Return an ``<svg>`` whose ids begin with ``name``, as wide as the page wants it."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    svg = re.sub(r"<style.*?</style>", "", drawn.getvalue(), flags=re.DOTALL)
    svg = re.sub(r'(\bid="|"#|url\(#)', rf"\1{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: inherit", svg).replace("xlink:href", "href")
    for stand_in, variable in _STAND_INS.items():
        svg = svg.replace(stand_in, variable)
    _, attributes, body = re.split(r"<svg (.*?)>", svg, maxsplit=1, flags=re.DOTALL)
    view_box = re.search(r'viewBox="[^"]*"', attributes)
    assert view_box is not None
    return f'<svg role="img" aria-label="{escape(description)}" {view_box[0]}>{body}'
