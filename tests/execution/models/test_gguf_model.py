"""Configs read from GGUF metadata: what the forward pass cannot do is refused."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from service.errors import ModelLoadError
from service.execution.models.gguf_file import GgufFile
from service.execution.models.gguf_model import read_config

SIZES = {
    "block_count": 2,
    "context_length": 512,
    "embedding_length": 32,
    "feed_forward_length": 64,
    "attention.head_count": 4,
}


def write(path: Path, architecture: str = "llama", **more: object) -> GgufFile:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_layer_norm_rms_eps(1e-5)
    for key, value in {**SIZES, **more}.items():
        name = f"{architecture}.{key}"
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        else:
            writer.add_uint32(name, value)
    writer.add_tensor("token_embd.weight", np.zeros((40, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path)


def test_sizes_come_from_the_metadata(tmp_path: Path) -> None:
    config = read_config(write(tmp_path / "model.gguf"))
    assert (config.num_layers, config.hidden_size, config.intermediate_size) == (2, 32, 64)
    assert (config.num_heads, config.num_kv_heads, config.head_dim, config.vocab_size) == (4, 4, 8, 40)
    assert config.rms_norm_eps == 1e-5
    assert config.max_position_embeddings == 512


def test_sliding_window_caps_the_context(tmp_path: Path) -> None:
    file = write(tmp_path / "model.gguf", **{"attention.sliding_window": 128})
    assert read_config(file).max_position_embeddings == 128


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rope.scaling.type", "yarn", "RoPE scaling 'yarn'"),
        ("rope.scaling.type", "linear", "RoPE scaling 'linear'"),
        ("rope.dimension_count", 4, "a part of each head"),
        ("expert_count", 8, "mixture-of-experts"),
    ],
)
def test_unsupported_variant_is_named(tmp_path: Path, key: str, value: object, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        read_config(write(tmp_path / "model.gguf", **{key: value}))


def test_unsupported_architecture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="architecture 'gemma3' is not supported, only llama, qwen2, qwen3"):
        read_config(write(tmp_path / "model.gguf", "gemma3"))
