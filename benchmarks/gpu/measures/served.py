"""The served model, drawn once for all measurements of steps, and how many bytes a step must read at least."""

from dataclasses import fields, is_dataclass
from functools import cached_property
from typing import Any

from benchmarks.gpu.models import drawn
from benchmarks.gpu.plane import Plane
from benchmarks.gpu.random_weights import ModelShape
from benchmarks.gpu.rig import Rig
from service.execution.models.weights import ModelWeights


class Served:
    """Its weights come to the device when they are first asked for, and go when nobody has this any more."""

    def __init__(self, rig: Rig, shape: ModelShape | None = None) -> None:
        self.rig = rig
        self.source = drawn(shape or rig.scale.served, rig.dtype)

    @cached_property
    def weights(self) -> ModelWeights:
        """On the device."""
        return self.source.on_device(self.rig, self.rig.dtype)

    @property
    def read_bytes(self) -> int:
        """Weights that every step reads whole: all but the embedding, of which it takes rows."""
        embedding = 0 if self.source.tied else self.weights.embedding.nbytes
        return _num_bytes(self.weights) - embedding

    @property
    def matrix_weights(self) -> int:
        """Numbers that a token is multiplied with: two operations each."""
        norms = sum(layer.attention_norm.size + layer.mlp_norm.size for layer in self.weights.layers)
        return self.read_bytes // self.rig.dtype.itemsize - norms - self.weights.output.weight.size

    def plane(self, *, device_blocks: int, host_blocks: int = 0, num_slots: int, max_batched_tokens: int) -> Plane:
        """A data plane of it, warm; its KV means nothing, but is numbers as KV has them."""
        sizes = {"device_blocks": device_blocks, "host_blocks": host_blocks}
        steps = {"num_slots": num_slots, "max_batched_tokens": max_batched_tokens}
        plane = Plane(self.rig, self.source.config, self.weights, self.rig.dtype, **sizes, **steps)
        self.rig.randomise(plane.pools.device)
        plane.runner.warm_up()
        plane.clock.spans.clear()
        return plane


def _num_bytes(part: Any) -> int:
    """Of all arrays in it, each counted once."""
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
