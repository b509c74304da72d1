"""The shapes that a service refuses to serve on a GPU are those that the ops would refuse in a step."""

import ml_dtypes
import numpy as np
import pytest

from kernels.cuda.ops import Ops
from service.errors import ModelLoadError
from service.execution.gpu.supported import require_supported
from service.execution.models.architecture import ModelConfig


def config(head_dim: int = 64, hidden_size: int = 64) -> ModelConfig:
    """Return the config of a model of two heads."""
    sizes = {"num_heads": 2, "num_kv_heads": 2, "vocab_size": 10, "max_position_embeddings": 64}
    return ModelConfig(
        architecture="llama",
        num_layers=1,
        hidden_size=hidden_size,
        intermediate_size=64,
        head_dim=head_dim,
        rms_norm_eps=1e-5,
        inverse_frequencies=(1.0,) * (head_dim // 2),
        **sizes,
    )


def is_supported(config: ModelConfig, dtype: type) -> bool:
    try:
        require_supported(config, np.dtype(dtype))
    except ModelLoadError:
        return False
    return True


def ops() -> Ops:
    """Return ops that launch nothing: shapes are refused before a launch."""
    return Ops(lambda *launch: None, lambda *product: None, np.empty(1 << 16, np.float32), processors=1)


def takes_heads(head_dim: int, dtype: type) -> bool:
    qkv, kv = np.zeros((1, 6, head_dim), dtype), np.zeros((1, 1, 2, 2, 16, head_dim), dtype)
    one, slot_mapping, angles = np.zeros(1, np.int32), np.zeros(1, np.int64), np.zeros((1, head_dim // 2), np.float32)
    try:
        ops().rope_store_kv(kv, 0, qkv, one, angles, angles, slot_mapping)
        query_start_loc = np.array([0, 1], np.int32)
        ops().paged_attention(
            qkv, kv, 0, one[None], one, query_start_loc, one + 1, 1.0, np.zeros((1, 2, head_dim), dtype)
        )
    except ValueError:
        return False
    return True


def takes_rows(columns: int, dtype: type) -> bool:
    try:
        ops().rms_norm(np.zeros((2, columns), dtype), np.ones(columns, dtype), 1e-5, np.zeros((2, columns), dtype))
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_heads(dtype: type) -> None:
    sizes = range(4, 144, 4)
    assert [is_supported(config(size), dtype) for size in sizes] == [takes_heads(size, dtype) for size in sizes]


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32])
def test_rows(dtype: type) -> None:
    sizes = range(2, 40, 2)
    served = [is_supported(config(hidden_size=size), dtype) for size in sizes]
    assert served == [takes_rows(size, dtype) for size in sizes]
