"""Models for checks and measurements: the first layers of the small real one, or random weights of any shape."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.random_weights import ModelShape, RandomTensors
from benchmarks.gpu.under_test import GPUUnderTest
from service.errors import ModelLoadError
from service.execution.gpu.weights import DeviceWeights
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import Destination, TensorSource, assemble
from service.execution.models.dense_weights import HostWeights
from service.execution.models.weights import ModelWeights


@dataclass(frozen=True, slots=True)
class Source:
    """A model's weights, which can be fetched more than once, to the host and to the device.

    ``name``: for reports. ``trained``: weights of a real model, in which roundings change activations less.
    """

    name: str
    config: ModelConfig
    tensors: TensorSource
    tied: bool
    trained: bool = False

    def on_host(self) -> ModelWeights:
        """Return the weights as float32, for the CPU's kernels."""
        return self._fetch(HostWeights())

    def on_device(self, gpu: GPUUnderTest, dtype: np.dtype[Any]) -> ModelWeights:
        """Return the weights rounded to ``dtype``. Raises DeviceMemoryError."""
        return self._fetch(DeviceWeights(gpu.runtime, dtype))

    def _fetch(self, destination: Destination) -> ModelWeights:
        return assemble(self.tensors, self.config, self.tied, destination)


def random_model(shape: ModelShape, dtype: np.dtype[Any], name: str = "random weights") -> Source:
    """Return random weights that ``dtype`` represents exactly."""
    return Source(name, shape.config, RandomTensors(shape, dtype), shape.tied)


def small_model(gpu: GPUUnderTest, dtype: np.dtype[Any]) -> Source:
    """Return the first layers of the packaged model, or random ones of its shape if it cannot be read here."""
    layers = gpu.scale.small_layers
    if not gpu.simulated:
        try:
            return _packaged(layers)
        except (ImportError, ModelLoadError):
            pass
    shape = replace(gpu.scale.small, config=replace(gpu.scale.small.config, num_layers=layers))
    return random_model(shape, dtype, f"random weights, {layers} layers of hidden size {shape.config.hidden_size}")


def _packaged(layers: int) -> Source:
    from service.execution.models.loading import open_model  # noqa: PLC0415 - needs packages for file formats

    model = open_model()
    config = replace(model.config, num_layers=layers)
    name, tensors = f"{model.name}, first {layers} layers", _FirstLayers(model.tensors, layers)
    return Source(name, config, tensors, model.tied, trained=True)


class _FirstLayers:
    """A `TensorSource` without the layers from ``layers`` on."""

    def __init__(self, tensors: TensorSource, layers: int) -> None:
        self._tensors, self._layers = tensors, layers

    def names(self) -> Iterable[str]:
        return [name for name in self._tensors.names() if self._keeps(name)]

    def _keeps(self, name: str) -> bool:
        _, is_layer, rest = name.partition("model.layers.")
        return not is_layer or int(rest.partition(".")[0]) < self._layers

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(name)

    def stored(self, name: str) -> str:
        return self._tensors.stored(name)

    def read(self, name: str, first: int, out: NDArray[Any]) -> None:
        self._tensors.read(name, first, out)

    def raw(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        return self._tensors.raw(name, first, count)

    def release(self) -> None:
        self._tensors.release()
