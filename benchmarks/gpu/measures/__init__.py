"""What is measured, in order: the cheap and the telling first, in case the time does not last."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.gpu.measures.decode import measure_decode
from benchmarks.gpu.measures.facts import measure_facts
from benchmarks.gpu.measures.idle import measure_idle
from benchmarks.gpu.measures.interference import measure_interference
from benchmarks.gpu.measures.links import measure_links
from benchmarks.gpu.measures.prefill import measure_prefill
from benchmarks.gpu.measures.served import Served
from benchmarks.gpu.measures.swaps import measure_swaps
from benchmarks.gpu.measures.switching import COMPARED, Switching
from benchmarks.gpu.rig import Rig

Measure = Callable[[], dict[str, Any]]
OF_THE_RIG = {"facts": measure_facts, "links": measure_links, "swaps": measure_swaps}
OF_THE_MODEL = {
    "decode": measure_decode,
    "prefill": measure_prefill,
    "interference": measure_interference,
    "idle": measure_idle,
}
SWITCHING = "switching"
NAMES = (*OF_THE_RIG, *OF_THE_MODEL, SWITCHING)


def measures(rig: Rig) -> Iterator[tuple[str, str, Measure]]:
    """One after the other: of which name, under what title, how. A model is on the device only while it is measured,
    for two do not fit.
    """
    for name, measure in OF_THE_RIG.items():
        yield name, name, partial(measure, rig)
    served = Served(rig)
    for name, of_model in OF_THE_MODEL.items():
        yield name, name, partial(of_model, served)
    for scale in rig.scale.switches:
        if scale.shape is not rig.scale.served:
            served = Served(rig, scale.shape)
        switching = Switching(served, scale)
        for preset in COMPARED:
            title = f"{SWITCHING}_{scale.name}_{preset}"
            yield SWITCHING, title, partial(_titled, title, partial(switching.measure, preset))


def _titled(title: str, measure: Measure) -> dict[str, Any]:
    return {title: measure()}
