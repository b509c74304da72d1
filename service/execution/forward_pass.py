"""The forward pass of a decoder of the Llama family as a list of operations, made once from a model's weights.

`model.LlamaModel` carries the list out operation by operation, on any kernels. `compiled_model.CompiledModel` makes one
program of it for a CPU. Both keep a *residual*, whose norm products read, and to which products add.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from service.execution.memory import Array
from service.execution.models.weights import LayerWeights, Linear, Matrix, ModelWeights


class Value(Enum):
    """The activations that products read and write."""

    NORMED = auto()
    QKV = auto()
    ATTENDED = auto()
    GATE_UP = auto()
    ACTIVATED = auto()
    RESIDUAL = auto()  # as a target: what is projected is added, at the latest by the next norm
    LAST_HIDDEN = auto()  # normed, of the tokens after which one is drawn
    LOGITS = auto()


@dataclass(frozen=True, slots=True)
class Embed:
    """The residual becomes the embeddings of the tokens."""

    table: Matrix


@dataclass(frozen=True, slots=True)
class Norm:
    """``NORMED``, or ``LAST_HIDDEN``, becomes the RMS norm of the residual; ``adds``: a projection is added first."""

    weight: Array
    adds: bool
    target: Value = Value.NORMED


@dataclass(frozen=True, slots=True)
class Project:
    """``target`` becomes the product of a layer and ``source``."""

    layer: Linear
    source: Value
    target: Value


@dataclass(frozen=True, slots=True)
class RotateAndStore:
    """Queries and keys of ``QKV`` are normed, if there are weights, and rotated; keys and values go to the pool."""

    number: int  # of the layer
    q_norm: Array | None
    k_norm: Array | None


@dataclass(frozen=True, slots=True)
class Attend:
    """``ATTENDED`` becomes the attention of the queries."""

    number: int  # of the layer


@dataclass(frozen=True, slots=True)
class SiluMul:
    """``ACTIVATED`` becomes the SiLU of the gate times the other half of ``GATE_UP``."""


Op = Embed | Norm | Project | RotateAndStore | Attend | SiluMul


def forward_pass(weights: ModelWeights) -> list[Op]:
    """Return the operations of a forward pass, in order."""
    ops: list[Op] = [Embed(weights.embedding)]
    for number, layer in enumerate(weights.layers):
        ops += _layer(number, layer)
    ops += [Norm(weights.final_norm, True, Value.LAST_HIDDEN), Project(weights.output, Value.LAST_HIDDEN, Value.LOGITS)]
    return ops


def _layer(number: int, layer: LayerWeights) -> Iterator[Op]:
    yield Norm(layer.attention_norm, adds=number > 0)
    yield Project(layer.qkv, Value.NORMED, Value.QKV)
    yield RotateAndStore(number, layer.q_norm, layer.k_norm)
    yield Attend(number)
    yield Project(layer.attention_out, Value.ATTENDED, Value.RESIDUAL)
    yield Norm(layer.mlp_norm, adds=True)
    yield Project(layer.gate_up, Value.NORMED, Value.GATE_UP)
    yield SiluMul()
    yield Project(layer.down, Value.ACTIVATED, Value.RESIDUAL)
