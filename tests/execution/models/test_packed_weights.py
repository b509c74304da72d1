"""Packed weights: the file's numbers in its own types, whatever is fused, tied, interleaved or cut into pieces."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from service.errors import ModelLoadError
from service.execution.models import packed_weights
from service.execution.models.dense_weights import HostWeights
from service.execution.models.loading import LoadedModel, load_model, open_model
from service.execution.models.packed_weights import PAGE, PackedWeights
from service.execution.models.weights import LayerWeights, Linear, ModelWeights, PackedLinear, PackedMatrix
from tests.gguf_models import Shape, write_model
from tests.stored_weights import unpacked

FAMILIES = Path(__file__).parents[2] / "data" / "families"
LAYER = ("qkv", "attention_out", "gate_up", "down")
NORMS = ("attention_norm", "q_norm", "k_norm", "mlp_norm")


def load(path: Path, dtype: str = "auto") -> LoadedModel:
    return open_model(path).load(PackedWeights(dtype))


def assert_equal(matrix: PackedMatrix, expected: np.ndarray, dtype: str) -> None:
    """Compare all parts, whose rows follow each other, with float32."""
    end = 0
    for part in matrix.parts:
        assert part.first == end
        end += part.rows
        wanted = expected[part.first : end]
        if part.format == "bfloat16":  # of another type, unless it loses nothing
            wanted = wanted.astype(ml_dtypes.bfloat16).astype(np.float32)
        assert part.format == "bfloat16" or dtype == "auto"
        np.testing.assert_array_equal(unpacked(part.format, part.groups, part.rows, matrix.columns), wanted)
    assert end == len(expected)


def formats(matrix: PackedMatrix) -> list[tuple[str, int]]:
    return [(part.format, part.rows) for part in matrix.parts]


def linears(weights: ModelWeights) -> list[Linear]:
    return [getattr(layer, name) for layer in weights.layers for name in LAYER]


def vectors(weights: ModelWeights) -> Iterator[np.ndarray]:
    """Return all norms and biases."""
    yield weights.final_norm
    yield from (linear.bias for linear in linears(weights) if linear.bias is not None)
    yield from (norm for layer in weights.layers for norm in norms(layer) if norm is not None)


def norms(layer: LayerWeights) -> list[np.ndarray | None]:
    return [getattr(layer, name) for name in NORMS]


def assert_same_numbers(path: Path, dtype: str = "auto") -> ModelWeights:
    """Compare with the model as float32, rounded where a part is bfloat16."""
    packed, dense = load(path, dtype).weights, load_model(path).weights
    pairs = [(packed.embedding, dense.embedding), (packed.output.weight, dense.output.weight)]
    pairs += [(one.weight, two.weight) for one, two in zip(linears(packed), linears(dense), strict=True)]
    for matrix, expected in pairs:
        assert_equal(matrix, expected, dtype)
    for one, two in zip(vectors(packed), vectors(dense), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_array_equal(one, two)
    return packed


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
@pytest.mark.parametrize("file", ["", "model.gguf"])
@pytest.mark.parametrize("family", sorted(path.name for path in FAMILIES.iterdir()))
def test_every_family_has_its_own_numbers(family: str, file: str, dtype: str) -> None:
    assert_same_numbers(FAMILIES / family / file, dtype)


@pytest.mark.parametrize(
    ("family", "file", "expected"),
    [
        ("llama2", "model.gguf", "Q4_0"),
        ("llama2", "", "bfloat16"),  # from float32
        ("llama3", "model.gguf", "bfloat16"),
        ("llama3", "", "bfloat16"),
        ("mistral", "model.gguf", "float16"),
        ("mistral", "", "float16"),
        ("qwen2", "model.gguf", "Q8_0"),
        ("smollm2", "model.gguf", "Q4_1"),
    ],
)
def test_weights_keep_the_type_of_the_file(family: str, file: str, expected: str) -> None:
    weights = load(FAMILIES / family / file).weights
    matrices = [weights.embedding, *(linear.weight for linear in linears(weights))]
    assert {name for matrix in matrices for name, _ in formats(matrix)} == {expected}


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q8_0", "Q4_K", "Q6_K", "bfloat16", "float16"])
def test_every_type_is_packed_as_it_is(name: str, tmp_path: Path) -> None:
    weights = assert_same_numbers(write_model(tmp_path / "model.gguf", name))
    assert formats(weights.embedding) == [(name, 272)]
    assert formats(weights.layers[1].qkv.weight) == [(name, 512)]


@pytest.mark.parametrize("name", ["float32", "Q5_0", "Q5_1"])
def test_other_types_become_bfloat16(name: str, tmp_path: Path) -> None:
    weights = assert_same_numbers(write_model(tmp_path / "model.gguf", name))
    assert formats(weights.layers[0].gate_up.weight) == [("bfloat16", 1024)]


def test_parts_of_a_fused_matrix_keep_their_types(tmp_path: Path) -> None:
    types = {"attn_v": "Q6_K", "ffn_down": "Q6_K", "output": "Q8_0", "ffn_up": "Q5_0"}
    weights = assert_same_numbers(write_model(tmp_path / "model.gguf", "Q4_K", types))
    assert formats(weights.layers[0].qkv.weight) == [("Q4_K", 384), ("Q6_K", 128)]
    assert formats(weights.layers[0].gate_up.weight) == [("Q4_K", 512), ("bfloat16", 512)]
    assert formats(weights.layers[0].down.weight) == [("Q6_K", 256)]
    assert formats(weights.output.weight) == [("Q8_0", 272)]


def test_rows_that_fill_no_group_begin_a_part_of_their_own(tmp_path: Path) -> None:
    shape = Shape(heads=3, kv_heads=1, head_dim=8, intermediate=256)  # q has 24 rows, k and v 8
    types = {"attn_output": "float16"}  # of 24 columns
    weights = assert_same_numbers(write_model(tmp_path / "model.gguf", "Q4_K", types, shape))
    assert formats(weights.layers[0].qkv.weight) == [("Q4_K", 24), ("Q4_K", 8), ("Q4_K", 8)]


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_pieces_change_nothing(dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_model(tmp_path / "model.gguf", "Q4_K", {"attn_v": "Q6_K"}, Shape(kv_heads=4))
    monkeypatch.setattr(packed_weights, "PIECE", 256 * 48)  # 48 rows, and q, k and v have 256, heads 64
    assert_same_numbers(path, dtype)


def test_bfloat16_can_be_asked_for(tmp_path: Path) -> None:
    weights = assert_same_numbers(write_model(tmp_path / "model.gguf", "Q4_K", {"attn_v": "float16"}), "bfloat16")
    matrices = [weights.embedding, *(linear.weight for linear in linears(weights))]
    assert all(name == "bfloat16" for matrix in matrices for name, _ in formats(matrix))


def test_tied_output_is_the_embedding_itself(tiny_model_path: Path) -> None:
    weights = load(tiny_model_path).weights
    assert isinstance(weights.output, PackedLinear)
    assert weights.output.weight is weights.embedding


def test_matrices_begin_at_pages(tmp_path: Path) -> None:
    weights = load(write_model(tmp_path / "model.gguf", "Q4_1")).weights
    arrays = [part.groups for linear in linears(weights) for part in linear.weight.parts]
    assert all(array.ctypes.data % PAGE == 0 for array in arrays)
    assert len({array.ctypes.data for array in arrays}) == len(arrays)


def test_a_matrix_larger_than_a_chunk_has_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "CHUNK", 3 * PAGE)
    assert_same_numbers(write_model(tmp_path / "model.gguf", "Q8_0"))


def test_the_size_of_a_matrix_is_known(tmp_path: Path) -> None:
    weights = load(write_model(tmp_path / "model.gguf", "Q4_K", {"attn_v": "Q6_K"})).weights
    assert weights.layers[0].qkv.weight.nbytes == 24 * (320 + 8 * 256) + 8 * (320 + 8 * 384)


def test_the_memory_of_a_model_is_known_before_it_is_loaded(tmp_path: Path) -> None:
    opened = open_model(write_model(tmp_path / "model.gguf", "Q4_K", {"attn_v": "Q6_K"}))
    weights = opened.load(PackedWeights("auto")).weights
    matrices = [weights.embedding, weights.output.weight, *(linear.weight for linear in linears(weights))]
    packed = {part.groups.ctypes.data: part.groups.nbytes for matrix in matrices for part in matrix.parts}
    expected = sum(packed.values()) + sum(vector.nbytes for vector in vectors(weights))
    assert opened.num_bytes(PackedWeights("auto")) == expected
    assert opened.num_bytes(HostWeights()) == 4 * opened.num_weights


def test_a_type_that_is_no_weight_is_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "Q4_0", {"attn_v": "I32"})
    with pytest.raises(ModelLoadError, match=r"blk.0.attn_v.weight \(I32\)"):
        load(path)


def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "Q4_K", {"attn_v": "Q6_K", "ffn_up": "float16", "ffn_down": "float32"})
    content, random = path.read_bytes(), np.random.default_rng(3)
    names = content.index(b"token_embd.weight")
    harmless = []
    for place in (*random.integers(0, 800, 30), *random.integers(names, names + 1200, 120)):
        damaged = bytearray(content)
        damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        with suppress(ModelLoadError):
            load(path)
            harmless.append(place)
    assert 0 < len(harmless) < 150


def test_files_can_be_read_again_after_their_memory_was_given_back(tmp_path: Path) -> None:
    opened = open_model(write_model(tmp_path / "model.gguf", "Q6_K"))
    first, second = (opened.load(PackedWeights("auto")).weights for _ in range(2))
    np.testing.assert_array_equal(first.embedding.parts[0].groups, second.embedding.parts[0].groups)
