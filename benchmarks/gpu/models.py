"""Models on a rig: the small real one cut to its first layers, or drawn ones of any shape."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.random_weights import ModelShape, RandomTensors
from benchmarks.gpu.rig import Rig
from service.errors import ModelLoadError
from service.execution.gpu.weights import DeviceWeights
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import Destination, HostWeights, TensorSource, assemble
from service.execution.models.weights import ModelWeights


@dataclass(frozen=True, slots=True)
class Source:
    """Weights that can be fetched more than once, to the host and to the device.

    ``name``: for people. ``trained``: of a real model, whose activations roundings trouble less.
    """

    name: str
    config: ModelConfig
    tensors: TensorSource
    tied: bool
    trained: bool = False

    def on_host(self) -> ModelWeights:
        """As float32, for the CPU's kernels."""
        return self._fetch(HostWeights())

    def on_device(self, rig: Rig, dtype: np.dtype[Any]) -> ModelWeights:
        """Rounded to ``dtype``. Raises DeviceMemoryError."""
        return self._fetch(DeviceWeights(rig.runtime, dtype))

    def _fetch(self, destination: Destination) -> ModelWeights:
        return assemble(self.tensors, self.config, self.tied, destination)


def drawn(shape: ModelShape, dtype: np.dtype[Any], name: str = "drawn weights") -> Source:
    """Weights that ``dtype`` can say exactly."""
    return Source(name, shape.config, RandomTensors(shape, dtype), shape.tied)


def small_model(rig: Rig, dtype: np.dtype[Any]) -> Source:
    """The first layers of the packaged model; where it or what reads it is not installed, drawn ones of its shape."""
    layers = rig.scale.small_layers
    if not rig.simulated:
        try:
            return _packaged(layers)
        except (ImportError, ModelLoadError):
            pass
    shape = replace(rig.scale.small, config=replace(rig.scale.small.config, num_layers=layers))
    return drawn(shape, dtype, f"drawn weights, {layers} layers of hidden size {shape.config.hidden_size}")


def _packaged(layers: int) -> Source:
    from service.execution.models.loading import open_model  # noqa: PLC0415 - reads formats with packages of their own

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
