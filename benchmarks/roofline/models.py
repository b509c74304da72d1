"""The models that are measured: the bundled one, and a few layers of a large one with random weights."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from benchmarks.gpu.random_weights import ModelShape
from benchmarks.gpu.shapes import LLAMA_3_8B
from benchmarks.random_quants import RandomQuants
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import assemble
from service.execution.models.loading import open_model
from service.execution.models.packed_weights import PackedWeights
from service.execution.models.weights import ModelWeights

LAYERS = 3  # of 32, with a quarter of the vocabulary: the head's share of a step stays near what it is
LARGE = ModelShape(
    replace(LLAMA_3_8B.config, num_layers=LAYERS, vocab_size=LLAMA_3_8B.config.vocab_size // 4), tied=True
)

Loaded = tuple[ModelConfig, ModelWeights]


def _bundled() -> Loaded:
    model = open_model().load(PackedWeights("auto"))
    return model.config, model.weights


def _large() -> Loaded:
    return LARGE.config, assemble(RandomQuants(LARGE, "Q4_K"), LARGE.config, LARGE.tied, PackedWeights("auto"))


MODELS: Mapping[str, Callable[[], Loaded]] = {
    "SmolLM2-135M, Q4_1": _bundled,
    f"{LAYERS} layers of Llama-3-8B, Q4_K": _large,
}
