"""Models that GPUs have no kernels for are refused by name of the problem."""

from dataclasses import replace

import numpy as np
import pytest

from service.errors import ModelLoadError
from service.execution.gpu.supported import element_type, require_supported
from service.execution.models.architecture import ModelConfig
from service.execution.models.rope import inverse_frequencies

CONFIG = ModelConfig(
    architecture="llama",
    num_layers=2,
    hidden_size=576,
    intermediate_size=1536,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    vocab_size=49_151,  # rows, of which there may be any number
    rms_norm_eps=1e-5,
    inverse_frequencies=inverse_frequencies(64, 10_000.0),
    max_position_embeddings=2048,
)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128])
def test_usual_shapes_are_computed(dtype: str, head_dim: int) -> None:
    require_supported(replace(CONFIG, head_dim=head_dim), element_type(dtype))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"head_dim": 256}, "heads of 256 elements are no multiple of 16 up to 128"),
        ({"head_dim": 72}, "heads of 72 elements"),
        ({"num_heads": 27}, "27 query heads share 3 KV heads, more than 8 one"),
        ({"hidden_size": 580}, "hidden_size 580 is no multiple of 8"),
        ({"intermediate_size": 1530}, "intermediate_size 1530"),
    ],
)
def test_others_are_refused_by_name(changes: dict[str, int], complaint: str) -> None:
    with pytest.raises(ModelLoadError, match=f"GPUs cannot serve it in float16: {complaint}"):
        require_supported(replace(CONFIG, **changes), np.dtype(np.float16))


def test_float32_has_shorter_vectors() -> None:
    require_supported(replace(CONFIG, head_dim=72, hidden_size=580), np.dtype(np.float32))
