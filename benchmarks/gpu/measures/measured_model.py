"""The model whose steps are measured, with random weights, and how many bytes a step must read at least."""

from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

from benchmarks.gpu.data_plane import DataPlane
from benchmarks.gpu.models import random_model
from benchmarks.gpu.random_weights import ModelShape
from benchmarks.gpu.under_test import GPUUnderTest
from service.execution.models.weights import ModelWeights


class MeasuredModel:
    """A model whose weights are copied to the device at their first use, and freed with this object."""

    def __init__(self, gpu: GPUUnderTest, shape: ModelShape | None = None) -> None:
        self.gpu = gpu
        self.source = random_model(shape or gpu.scale.model, gpu.dtype)

    @cached_property
    def weights(self) -> ModelWeights:
        """The weights on the device."""
        return self.source.on_device(self.gpu, self.gpu.dtype)

    @property
    def read_bytes(self) -> int:
        """Bytes of the weights that every step reads whole: all but the embedding, of which it takes rows."""
        embedding = 0 if self.source.tied else self.weights.embedding.nbytes
        return _num_bytes(self.weights) - embedding

    @property
    def matrix_weights(self) -> int:
        """How many weights a token is multiplied with, at two operations each."""
        norms = sum(layer.attention_norm.size + layer.mlp_norm.size for layer in self.weights.layers)
        return self.read_bytes // self.gpu.dtype.itemsize - norms - self.weights.output.weight.size

    def data_plane(self, **sizes: int) -> DataPlane:
        """Return a warm `DataPlane` of these sizes. Its KV is random numbers of a realistic size."""
        plane = DataPlane(self.gpu, self.source.config, self.weights, self.gpu.dtype, **sizes)
        self.gpu.randomise(plane.pools.device)
        plane.runner.warm_up()
        plane.clock.spans.clear()
        return plane


def _num_bytes(part: Any) -> int:
    """Return the bytes of all arrays in ``part``, each counted once."""
    arrays: dict[int, int] = {}

    def count(value: Any) -> None:
        if isinstance(value, tuple):
            for each in value:
                count(each)
        elif is_dataclass(value):
            for field in fields(value):
                count(getattr(value, field.name))
        elif value is not None:
            arrays[id(value)] = value.nbytes

    count(part)
    return sum(arrays.values())
