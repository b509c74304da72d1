"""Random weights have the right shapes, depend on the seed alone, and keep logits at a normal size."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from allocator import Extent
from benchmarks.gpu.random_weights import ModelShape, RandomTensors, random_weights
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams
from service.execution.kv import KVPools
from service.execution.models.architecture import ModelConfig
from service.execution.models.assemble import num_weights
from service.execution.models.dense_weights import HostWeights
from service.execution.models.rope import inverse_frequencies
from service.execution.runner import CPURunner

FLOAT32 = np.dtype(np.float32)
CONFIG = ModelConfig(
    architecture="qwen2",
    num_layers=4,
    hidden_size=256,
    intermediate_size=640,
    num_heads=4,
    num_kv_heads=2,
    head_dim=64,
    vocab_size=1000,
    rms_norm_eps=1e-6,
    inverse_frequencies=inverse_frequencies(64, 10_000.0),
    max_position_embeddings=512,
)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_a_shape_has_every_tensor_that_a_model_needs(tied: bool, qkv_bias: bool, qk_norm: bool) -> None:
    shape = ModelShape(CONFIG, tied=tied, qkv_bias=qkv_bias, qk_norm=qk_norm)
    weights = random_weights(shape, FLOAT32, HostWeights())
    assert (weights.output.weight is weights.embedding) is tied
    assert (weights.layers[0].qkv.bias is not None) is qkv_bias
    assert (weights.layers[3].k_norm is not None) is qk_norm


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_a_matrix_is_the_same_however_it_is_read(dtype: type) -> None:
    name = "model.layers.1.mlp.down_proj.weight"
    tensors = RandomTensors(ModelShape(CONFIG), np.dtype(dtype), seed=3)
    whole, rows = np.empty((256, 640), dtype), np.empty((256, 640), dtype)
    tensors.read(name, 0, whole)
    for first in range(0, 256, 100):
        tensors.read(name, first, rows[first : first + 100])
    assert whole.tobytes() == rows.tobytes()


def test_a_matrix_longer_than_the_table_goes_on_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.random_weights.TABLE", 1009)
    tensors = RandomTensors(ModelShape(CONFIG), FLOAT32)
    matrix = np.empty((256, 640), np.float32)
    tensors.read("model.layers.1.mlp.down_proj.weight", 0, matrix)
    flat = matrix.reshape(-1)
    assert np.array_equal(flat[1009:2018], flat[:1009])
    assert len(np.unique(flat[:1009])) > 1000


def test_seeds_and_tensors_differ() -> None:
    def matrix(seed: int, layer: int) -> bytes:
        out = np.empty((640, 256), np.float32)
        RandomTensors(ModelShape(CONFIG), FLOAT32, seed).read(f"model.layers.{layer}.mlp.up_proj.weight", 0, out)
        return out.tobytes()

    assert matrix(0, 0) == matrix(0, 0)
    assert len({matrix(0, 0), matrix(1, 0), matrix(0, 1)}) == 3


def test_logits_of_a_deep_model_keep_their_size() -> None:
    config = replace(CONFIG, num_layers=48)
    weights = random_weights(ModelShape(config, qkv_bias=True), FLOAT32, HostWeights())
    runner = CPURunner(config, weights, pools=KVPools.plain(config, 4), num_slots=1, max_batched_tokens=32)
    tokens = tuple(range(0, 960, 32))
    sampling = SamplingParams(logprobs=5)
    rows = (Row(0, 0, tokens, (Extent(0, 0, 2),), draws_token=True),)
    (drawn,) = runner.run(StepPlan(0, (SlotOpening.of(0, tokens, 30, sampling),), rows)).drawn
    assert not drawn.invalid
    assert drawn.logprobs is not None
    assert all(-8 < value < 0 for _, value in drawn.logprobs.top)  # log(1000) is 6.9


def test_the_number_of_weights_is_known_from_the_shape() -> None:
    shape = ModelShape(CONFIG, tied=True)
    assert num_weights(RandomTensors(shape, FLOAT32), tied=True) == 1000 * 256 + 256 + 4 * (
        2 * 256 + (256 + 2 * 128) * 256 + 256 * 256 + 3 * 640 * 256
    )
