"""Hugging Face directories: both forms of the RoPE settings, windows, shards and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from service.errors import ModelLoadError
from service.execution.models.architecture import ModelConfig
from service.execution.models.rope import Llama3Scaling, inverse_frequencies
from service.execution.models.safetensors_dir import SafetensorsDir, read_config

SHARDED = Path(__file__).parents[2] / "data" / "families" / "llama2"
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
BASE = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 40,
    "max_position_embeddings": 512,
}


def config_of(directory: Path, **changes: object) -> ModelConfig:
    (directory / "config.json").write_text(json.dumps(BASE | changes))
    return read_config(directory)


def test_absent_settings_have_the_family_defaults(tmp_path: Path) -> None:
    config = config_of(tmp_path)
    assert (config.num_kv_heads, config.head_dim, config.rms_norm_eps) == (4, 8, 1e-6)
    assert config.inverse_frequencies == inverse_frequencies(8, 10000.0)


def test_old_and_new_rope_settings_mean_the_same(tmp_path: Path) -> None:
    new = config_of(tmp_path, rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3})
    old = config_of(tmp_path, rope_theta=5e5, rope_scaling={"type": "llama3", **LLAMA3})
    assert new == old
    assert new.inverse_frequencies == inverse_frequencies(8, 5e5, Llama3Scaling(**LLAMA3))


@pytest.mark.parametrize("kind", ["yarn", "linear", "dynamic", "longrope"])
def test_other_rope_scaling_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelLoadError, match=f"RoPE scaling '{kind}' is not supported"):
        config_of(tmp_path, rope_scaling={"rope_type": kind, "factor": 2.0})


def test_sliding_window_of_mistral_caps_the_context(tmp_path: Path) -> None:
    assert config_of(tmp_path, model_type="mistral", sliding_window=128).max_position_embeddings == 128
    assert config_of(tmp_path, model_type="mistral", sliding_window=None).max_position_embeddings == 512


def test_sliding_window_of_qwen_counts_only_if_it_is_used(tmp_path: Path) -> None:
    window = {"model_type": "qwen2", "sliding_window": 128}
    assert config_of(tmp_path, **window, use_sliding_window=False).max_position_embeddings == 512
    assert config_of(tmp_path, **window, use_sliding_window=True).max_position_embeddings == 128


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gemma3"}, "model type 'gemma3' is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"partial_rotary_factor": 0.5}, "a part of each head"),
        ({"hidden_size": "large"}, "hidden_size is not int"),
        ({"vocab_size": None}, "vocab_size is missing"),
        ({"rope_scaling": "llama3"}, "rope_scaling is not dict"),
    ],
)
def test_unsupported_or_malformed_setting_is_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        config_of(tmp_path, **changes)


def test_missing_shard_is_named(tmp_path: Path) -> None:
    directory = Path(shutil.copytree(SHARDED, tmp_path / "model"))
    (directory / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"model-00002-of-00003\.safetensors: cannot be read"):
        SafetensorsDir(directory)


def test_file_truncated_anywhere_is_refused(tmp_path: Path) -> None:
    content = (SHARDED / "model-00001-of-00003.safetensors").read_bytes()
    path = tmp_path / "model.safetensors"
    for length in [*range(0, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ModelLoadError, match="not a complete safetensors file"):
            SafetensorsDir(tmp_path)


def test_bfloat16_becomes_float32_exactly(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625, 1e-30, 0.0], dtype=np.float32)
    save_file({"x": (values.view(np.uint32) >> 16).astype(np.uint16)}, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    # The name is one character longer, so one of the header's padding spaces goes.
    (tmp_path / "model.safetensors").write_bytes(content.replace(b'"U16"', b'"BF16"').replace(b"}} ", b"}}", 1))
    out = np.empty(5, dtype=np.float32)
    SafetensorsDir(tmp_path).read("x", 0, out)
    np.testing.assert_array_equal(out, (values.view(np.uint32) >> 16 << 16).view(np.float32))


def test_integer_weights_are_refused(tmp_path: Path) -> None:
    save_file({"x": np.zeros(4, dtype=np.int32)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelLoadError, match="tensor x is I32"):
        SafetensorsDir(tmp_path)
