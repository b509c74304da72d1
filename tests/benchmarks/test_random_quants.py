"""Random quantised weights: whole blocks of the type that was asked for, of a normal size, the same to all readers."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from benchmarks.gpu.random_weights import ModelShape, RandomTensors
from benchmarks.random_quants import RandomQuants
from kernels.cpu.step.formats import FORMATS
from kernels.cpu.step.formats.format import Quantised
from service.execution.models.assemble import assemble
from service.execution.models.packed_weights import PackedWeights
from tests.benchmarks.test_random_weights import CONFIG
from tests.stored_weights import meant, unpacked

SHAPE = ModelShape(replace(CONFIG, intermediate_size=512, num_layers=2), qkv_bias=True)
QUANTISED = [name for name, each in FORMATS.items() if isinstance(each, Quantised)]
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("name", QUANTISED)
def test_a_matrix_is_the_same_packed_and_read_in_any_pieces(name: str) -> None:
    tensors = RandomQuants(SHAPE, name)
    whole, rows = np.empty((256, 512), np.float32), np.empty((100, 512), np.float32)
    tensors.read(DOWN, 0, whole)
    tensors.read(DOWN, 100, rows)
    np.testing.assert_array_equal(rows, whole[100:200])
    np.testing.assert_array_equal(meant(name, tensors.raw(DOWN, 0, 256)), whole)
    (part,) = assemble(tensors, SHAPE.config, False, PackedWeights("auto")).layers[1].down.weight.parts
    assert part.format == name
    np.testing.assert_array_equal(unpacked(name, part.groups, 256, 512), whole)


@pytest.mark.parametrize("name", QUANTISED)
def test_weights_have_a_normal_size(name: str) -> None:
    matrix = np.empty((256, 512), np.float32)
    RandomQuants(SHAPE, name).read(DOWN, 0, matrix)
    assert 0.5 < matrix.var() * 512 < 2.5


def test_vectors_are_float32() -> None:
    tensors = RandomQuants(SHAPE, "Q4_K")
    norm, bias = np.empty(256, np.float32), np.empty(256, np.float32)
    tensors.read("model.norm.weight", 0, norm)
    tensors.read("model.layers.0.self_attn.q_proj.bias", 0, bias)
    assert (norm == 1).all()
    assert len(np.unique(bias)) == 256
    assert tensors.stored("model.norm.weight") == "float32"


def test_random_numbers_of_16_bits_are_packed_as_they_are() -> None:
    tensors = RandomTensors(SHAPE, np.dtype(ml_dtypes.bfloat16))
    matrix = np.empty((256, 512), np.float32)
    tensors.read(DOWN, 0, matrix)
    (part,) = assemble(tensors, SHAPE.config, False, PackedWeights("auto")).layers[1].down.weight.parts
    assert part.format == "bfloat16"
    np.testing.assert_array_equal(unpacked("bfloat16", part.groups, 256, 512), matrix)
