"""The bounds that figures must meet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Mark:
    """A bound on a figure. ``at_least``: the figure must reach ``bound``; else it must not exceed it."""

    figure: str
    bound: float
    at_least: bool
    meaning: str

    def met(self, value: float) -> bool:
        """Return whether the value meets the bound."""
        return value >= self.bound if self.at_least else value <= self.bound

    def line(self, figures: Mapping[str, Any]) -> str:
        """Return a line to print."""
        side = "at least" if self.at_least else "at most"
        value = figures.get(self.figure)
        shown = "not measured" if value is None else f"{value:.3f} {'ok' if self.met(value) else 'MISSED'}"
        return f"{self.figure:24}{shown:16}{side} {self.bound:g}: {self.meaning}"


MARKS = (
    Mark("swap_vs_pinned_peak", 0.95, True, "swaps of 8 MiB and more over a plain pinned copy"),
    Mark("duplex_vs_raw_duplex", 0.95, True, "swaps both ways at once over plain copies both ways"),
    Mark("decode_vs_floor", 1.15, False, "a decode step over reading its weights and KV, at the worst batch size"),
    Mark("prefill_vs_matrix_peak", 0.60, True, "operations of a prompt over a large product's in the same time"),
    Mark("step_with_busy_links", 1.03, False, "a step with both links busy over one with idle links"),
    Mark("busy_links_share", 0.90, True, "bytes that they moved over plain copies both ways: were they busy?"),
    Mark("idle_gap_share", 0.03, False, "the device's idle time between steps of a full batch"),
)


def judged(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all marks in the form in which they are stored; ``met`` is None where nothing was measured."""
    return [
        {
            "figure": mark.figure,
            "bound": mark.bound,
            "at_least": mark.at_least,
            "value": figures.get(mark.figure),
            "met": mark.met(figures[mark.figure]) if mark.figure in figures else None,
        }
        for mark in MARKS
    ]
