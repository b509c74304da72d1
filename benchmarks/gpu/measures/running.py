"""Take the wanted measurements one after the other, as long as there is time."""

import gc
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from benchmarks.gpu.measures import measures
from benchmarks.gpu.under_test import GPUUnderTest
from service.errors import DeviceLostError

Taken = tuple[str, dict[str, Any], float]  # title, figures, seconds


def take(gpu: GPUUnderTest, wanted: Sequence[str], budget_s: float) -> Iterator[Taken]:
    """Yield measurements as they end. None begins after ``budget_s``; one that fails says so in its figures.

    A lost device ends the run.
    """
    began = monotonic()
    for name, title, measure in measures(gpu):
        if name not in wanted:
            continue
        started = monotonic()
        if started - began > budget_s:
            yield title, {f"{title}_left_out": f"no time: {started - began:.0f} s had passed"}, 0.0
            continue
        gc.collect()  # frees the device memory of the last measurement
        figures, lost = _taken(title, measure)
        yield title, figures, monotonic() - started
        if lost:
            return


def _taken(title: str, measure: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    try:
        return measure(), False
    except Exception as error:  # whatever fails, the other measurements are still taken
        return {f"{title}_failed": f"{type(error).__name__}: {error}"}, isinstance(error, DeviceLostError)
