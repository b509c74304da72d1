"""Takes the measurements that are wanted, one after the other, as long as there is time."""

import gc
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import Any

from benchmarks.gpu.measures import measures
from benchmarks.gpu.rig import Rig
from service.errors import DeviceLostError

Taken = tuple[str, dict[str, Any], float]  # title, figures, seconds


def take(rig: Rig, wanted: Sequence[str], budget_s: float) -> Iterator[Taken]:
    """None is begun after ``budget_s``. One that fails says so in its figures; a lost device ends it all."""
    began = monotonic()
    for name, title, measure in measures(rig):
        if name not in wanted:
            continue
        started = monotonic()
        if started - began > budget_s:
            yield title, {f"{title}_left_out": f"no time: {started - began:.0f} s had passed"}, 0.0
            continue
        gc.collect()  # device memory of what was measured before
        figures, lost = _taken(title, measure)
        yield title, figures, monotonic() - started
        if lost:
            return


def _taken(title: str, measure: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], bool]:
    try:
        return measure(), False
    except Exception as error:  # whatever it is, the others are still to be taken
        return {f"{title}_failed": f"{type(error).__name__}: {error}"}, isinstance(error, DeviceLostError)
