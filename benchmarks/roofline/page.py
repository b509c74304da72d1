"""docs/roofline.md: the measured limits, and what each kernel reaches of the one that binds it."""

from collections.abc import Iterator, Mapping
from typing import Any

INTRODUCTION = """\
# The roofline

What each kernel of a compiled step reaches of the limit that binds it. `make roofline` measures limits and kernels in
one run, stores them in [benchmarks/results/roofline.json](../benchmarks/results/roofline.json) and writes this page.

![Operations a second over operations a byte](roofline.svg)
"""
METHOD = """\
## How it is measured

A kind of operation is timed alone, as a program that does it for all layers: the best of many runs, as the limits are
best ones, less what a step without operations takes. Other memory is read before each run, so that no weights are in
caches. The least time is that of its bytes at the speed of memory, or of its operations at the speed of the
instruction that it is made of, whichever is longer; *share* is least time over measured time. Bytes are weights, keys
and values once, and activations each time that an operation reads or writes them, though they mostly stay in caches.
A step's share is the sum of all least times over the time of the whole step.
"""
QUIET_CORES = 0.1
SHORTEST = 0.02  # ms, below which a share means nothing
UNITS = {"read": "memory", "bytes": "byte products", "pairs": "bfloat16 products", "floats": "float32"}


def page(figures: Mapping[str, Any]) -> str:
    """Return the page."""
    parts = [INTRODUCTION, "\n".join(_limits(figures)) + "\n"]
    for name, steps in figures["models"].items():
        parts.append(f"## {name}\n\n" + "\n".join(_shares(steps)) + "\n")
    return "\n".join([*parts, METHOD])


def _limits(figures: Mapping[str, Any]) -> Iterator[str]:
    all_of_them, one = figures["limits"], figures["limits_of_one_thread"]
    yield f"| limit | 1 thread | {figures['threads']} threads |"
    yield "|---|--:|--:|"
    yield f"| reads from memory, GB/s | {one['read'] / 1e9:.1f} | {all_of_them['read'] / 1e9:.1f} |"
    for unit, label in list(UNITS.items())[1:]:
        yield f"| {label}, G operations/s | {one[unit] / 1e9:,.0f} | {all_of_them[unit] / 1e9:,.0f} |"
    yield ""
    others = f"Other processes kept {figures['other_cores']:.1f} cores busy meanwhile"
    yield f"{others}." if figures["other_cores"] <= QUIET_CORES else f"**{others}, so kernels are faster than shown.**"


def _shares(steps: Mapping[str, Any]) -> Iterator[str]:
    """Yield a table: a line for each kind, and for each step its time in ms and its share."""
    kinds = list(next(iter(steps.values()))["kinds"])
    yield "Time in ms, share of the limit that binds; *italic* where that is not memory.\n"
    yield "| rows x queries at context | " + " | ".join(steps) + " |"
    yield "|---|" + "--:|" * len(steps)
    for kind in kinds:
        yield f"| {kind} | " + " | ".join(_cell(step["kinds"][kind]) for step in steps.values()) + " |"
    yield (
        "| the whole step | "
        + " | ".join(f"{step['step_ms']:.2f}, {step['share']:.0%}" for step in steps.values())
        + " |"
    )


def _cell(each: Mapping[str, Any]) -> str:
    if each["ms"] < SHORTEST:
        return f"{each['ms']:.2f}"
    share = f"{each['share']:.0%}"
    return f"{each['ms']:.2f}, " + (share if each["binds"] == "read" else f"*{share}*")
