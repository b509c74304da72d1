"""GGUF files: complete or refused, and the same numbers as the package gives."""

from pathlib import Path

import gguf
import ml_dtypes
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Quantization

from service.errors import ModelLoadError
from service.execution.models.gguf_file import GgufFile
from service.execution.models.loading import default_model_path, load_model

LLAMA = Path(__file__).parents[2] / "data" / "families" / "llama2" / "model.gguf"

BLOCK_QUANTIZATIONS = [
    kind
    for kind in Quantization
    if kind in gguf.quants._type_traits and kind not in (Quantization.F32, Quantization.F16)
]


def write(path: Path, blocks: np.ndarray, kind: Quantization) -> GgufFile:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("matrix", blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path)


def refusal(path: Path) -> str | None:
    """Return the one line with which loading ``path`` fails, or None if it loads."""
    try:
        load_model(path)
    except ModelLoadError as error:
        return str(error)
    return None


def is_one_clear_line(message: str | None, path: Path) -> bool:
    return message is not None and message.startswith(str(path)) and "\n" not in message


def test_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    content = LLAMA.read_bytes()
    path = tmp_path / "truncated.gguf"
    for length in [*range(128), *range(128, len(content), 97), *range(len(content) - 40, len(content))]:
        path.write_bytes(content[:length])
        assert is_one_clear_line(refusal(path), path), length


def test_real_file_truncated_is_refused(tmp_path: Path) -> None:
    content = default_model_path().read_bytes()
    path = tmp_path / "truncated.gguf"
    for share in (0.001, 0.01, 0.0181, 0.0182, 0.3, 0.9, 0.999999):
        path.write_bytes(content[: int(share * len(content))])
        assert is_one_clear_line(refusal(path), path), share


def test_damaged_header_is_refused_or_harmless(tmp_path: Path) -> None:
    content = LLAMA.read_bytes()
    random = np.random.default_rng(3)
    path = tmp_path / "damaged.gguf"
    for _ in range(150):
        damaged = bytearray(content)
        damaged[random.integers(800)] = random.integers(256)
        path.write_bytes(damaged)
        message = refusal(path)
        assert message is None or is_one_clear_line(message, path)


def test_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("This is no model at all, but long enough to be read as a header.")
    with pytest.raises(ModelLoadError, match="not a complete GGUF file: GGUF magic invalid"):
        GgufFile(tmp_path / "text.gguf")


def test_metadata_is_what_the_package_reads() -> None:
    fields = gguf.GGUFReader(LLAMA).fields
    file = GgufFile(LLAMA)
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "general.architecture", "llama.block_count"):
        expected = fields[key].contents()
        assert file.require(key, type(expected)) == expected


def test_absent_metadata_is_none_or_refused() -> None:
    file = GgufFile(LLAMA)
    assert file.get("llama.expert_count", int) is None
    with pytest.raises(ModelLoadError, match=r"llama\.expert_count is missing"):
        file.require("llama.expert_count", int)


def test_metadata_of_another_type_is_refused() -> None:
    with pytest.raises(ModelLoadError, match=r"llama\.block_count is not of type str"):
        GgufFile(LLAMA).get("llama.block_count", str)


@pytest.mark.parametrize("kind", BLOCK_QUANTIZATIONS, ids=lambda kind: kind.name)
def test_every_quantisation_is_decoded_as_by_the_package(kind: Quantization, tmp_path: Path) -> None:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, blocks = 3, (1 << 16) // block + 1  # more than one chunk, and no multiple of it
    raw = np.random.default_rng(1).integers(0, 60, (rows, blocks * block_bytes), dtype=np.uint8)  # no NaN scales
    out = np.empty((rows, blocks * block), dtype=np.float32)
    write(tmp_path / "one.gguf", raw, kind).read("matrix", 0, out)
    np.testing.assert_array_equal(out, gguf.dequantize(raw, kind))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_plain_floats_are_taken_as_they_are(dtype: type, tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((3, 5)).astype(dtype)
    kind = Quantization.F32 if dtype is np.float32 else Quantization.F16
    out = np.empty((3, 5), dtype=np.float32)
    write(tmp_path / "one.gguf", values, kind).read("matrix", 0, out)
    np.testing.assert_array_equal(out, values.astype(np.float32))


@pytest.mark.parametrize("kind", [*BLOCK_QUANTIZATIONS, Quantization.F16], ids=lambda kind: kind.name)
def test_rows_can_be_read_apart(kind: Quantization, tmp_path: Path) -> None:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(1).integers(0, 60, (7, 2 * block_bytes), dtype=np.uint8)
    file = write(tmp_path / "one.gguf", raw.view(np.float16) if kind is Quantization.F16 else raw, kind)
    whole, rows = np.empty((7, 2 * block), np.float32), np.empty((3, 2 * block), np.float32)
    file.read("matrix", 0, whole)
    file.read("matrix", 4, rows)
    np.testing.assert_array_equal(rows, whole[4:])


def test_bfloat16_is_taken_as_it_is(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((3, 5)).astype(ml_dtypes.bfloat16)
    file = write(tmp_path / "one.gguf", values.view(np.uint8), Quantization.BF16)
    out, widened = np.empty((2, 5), ml_dtypes.bfloat16), np.empty((2, 5), np.float32)
    file.read("matrix", 1, out)
    file.read("matrix", 1, widened)
    assert file.stored("matrix") == out.dtype.name
    assert out.tobytes() == values[1:].tobytes()
    np.testing.assert_array_equal(widened, values[1:].astype(np.float32))


def test_tensor_that_is_no_weight_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "one.gguf", np.zeros((2, 4), dtype=np.int32), Quantization.I32)
    with pytest.raises(ModelLoadError, match=r"tensor matrix \(I32\)"):
        file.read("matrix", 0, np.empty((2, 4), dtype=np.float32))
