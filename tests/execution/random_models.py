"""Small models of random weights in any type of a file, packed, and as the float32 that they stand for."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.random_weights import ModelShape, RandomTensors
from benchmarks.random_quants import RandomQuants
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import TensorSource, assemble
from service.execution.models.dense_weights import HostWeights
from service.execution.models.packed_weights import PackedWeights
from service.execution.models.weights import ModelWeights
from tests.execution.model_bench import VOCAB

SIXTEEN_BITS = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


@dataclass(frozen=True)
class RandomModel:
    """A model of two layers in both forms."""

    config: ModelConfig
    packed: ModelWeights
    dense: ModelWeights


class _Uneven:
    """A source whose norms are not all one."""

    def read(self, name: str, first: int, out: NDArray[np.float32]) -> None:
        super().read(name, first, out)  # type: ignore[misc]
        if name.endswith("norm.weight"):
            out += np.random.default_rng(len(name)).standard_normal(out.shape, np.float32) / 4


class _Quants(_Uneven, RandomQuants):
    pass


class _Tensors(_Uneven, RandomTensors):
    pass


def make_model(
    kind: str,
    *,
    hidden: int = 64,
    intermediate: int = 96,
    heads: int = 6,
    kv_heads: int = 2,
    head_dim: int = 32,
    tied: bool = False,
    qkv_bias: bool = False,
    qk_norm: bool = False,
) -> RandomModel:
    """Return a model whose matrices have the type ``kind``."""
    config = ModelConfig(
        architecture="llama",
        num_layers=2,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=VOCAB,
        rms_norm_eps=1e-5,
        inverse_frequencies=tuple((10000.0 ** -(np.arange(0, head_dim, 2) / head_dim)).tolist()),
        max_position_embeddings=1024,
    )
    shape = ModelShape(config, tied=tied, qkv_bias=qkv_bias, qk_norm=qk_norm)
    source: TensorSource
    source = _Tensors(shape, np.dtype(SIXTEEN_BITS[kind])) if kind in SIXTEEN_BITS else _Quants(shape, kind)
    packed, dense = (assemble(source, config, tied, form) for form in (PackedWeights("auto"), HostWeights()))
    return RandomModel(config, packed, dense)
