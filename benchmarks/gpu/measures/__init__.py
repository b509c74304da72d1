"""What is measured, in order: cheap and informative measurements come first, in case the time does not last."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.gpu.measures.decode import measure_decode
from benchmarks.gpu.measures.facts import measure_facts
from benchmarks.gpu.measures.idle import measure_idle
from benchmarks.gpu.measures.interference import measure_interference
from benchmarks.gpu.measures.links import measure_links
from benchmarks.gpu.measures.measured_model import MeasuredModel
from benchmarks.gpu.measures.prefill import measure_prefill
from benchmarks.gpu.measures.swaps import measure_swaps
from benchmarks.gpu.measures.switching import COMPARED, Switching
from benchmarks.gpu.under_test import GPUUnderTest

Measure = Callable[[], dict[str, Any]]
OF_THE_DEVICE = {"facts": measure_facts, "links": measure_links, "swaps": measure_swaps}
OF_THE_MODEL = {
    "decode": measure_decode,
    "prefill": measure_prefill,
    "interference": measure_interference,
    "idle": measure_idle,
}
SWITCHING = "switching"
NAMES = (*OF_THE_DEVICE, *OF_THE_MODEL, SWITCHING)


def measures(gpu: GPUUnderTest) -> Iterator[tuple[str, str, Measure]]:
    """Yield name, title and function of each measurement.

    A model is on the device only while it is measured, for two do not fit.
    """
    for name, measure in OF_THE_DEVICE.items():
        yield name, name, partial(measure, gpu)
    model = MeasuredModel(gpu)
    for name, of_model in OF_THE_MODEL.items():
        yield name, name, partial(of_model, model)
    for scale in gpu.scale.switches:
        if scale.shape is not gpu.scale.model:
            model = MeasuredModel(gpu, scale.shape)
        switching = Switching(model, scale)
        for preset in COMPARED:
            title = f"{SWITCHING}_{scale.name}_{preset}"
            yield SWITCHING, title, partial(_titled, title, partial(switching.measure, preset))


def _titled(title: str, measure: Measure) -> dict[str, Any]:
    return {title: measure()}
