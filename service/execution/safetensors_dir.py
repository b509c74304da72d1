"""A Llama-family model in a Hugging Face directory: config.json and one or more safetensors files."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from service.errors import ModelLoadError
from service.execution.architecture import ModelConfig
from service.execution.rope import Llama3Scaling, inverse_frequencies
from service.execution.weights import Array

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}  # NumPy has no bfloat16: its bits are read
_DEFAULT_THETA = 10000.0


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises `ModelLoadError`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ModelLoadError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path}: not a JSON object")
    return content


class SafetensorsDir:
    """The tensors of all safetensors files of a directory as a `TensorSource`."""

    def __init__(self, directory: Path) -> None:
        self._tensors: dict[str, tuple[str, NDArray[Any]]] = {}  # name -> (dtype in the file, array of its bits)
        for path in _weight_files(directory):
            self._tensors |= _open(path)

    def names(self) -> Iterable[str]:
        """Names of all tensors, without the frequency tables of old checkpoints, which the config determines."""
        return (name for name in self._tensors if not name.endswith("rotary_emb.inv_freq"))

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._tensors[name][1].shape

    def read(self, name: str, out: Array) -> None:
        """Convert a tensor to float32 into ``out``."""
        dtype, data = self._tensors[name]
        if dtype == "BF16":  # the upper half of a float32
            bits = out.view(np.uint32)
            bits[...] = data
            bits <<= 16
        else:
            out[...] = data


def _weight_files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return [directory / "model.safetensors"]
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ModelLoadError(f"{index}: has no weight_map of file names")
    return [directory / name for name in sorted(set(weight_map.values()))]


def _open(path: Path) -> dict[str, tuple[str, NDArray[Any]]]:
    try:
        with safe_open(path, framework="np"):  # checks the header against the file's length
            pass
        with path.open("rb") as file:
            (header_bytes,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_bytes))
        data = np.asarray(np.memmap(path, dtype=np.uint8, mode="r", offset=8 + header_bytes))
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, struct.error) as error:
        raise ModelLoadError(f"{path}: not a complete safetensors file: {error}") from error
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], _view(path, name, entry, data)) for name, entry in header.items()}


def _view(path: Path, name: str, entry: dict[str, Any], data: NDArray[np.uint8]) -> NDArray[Any]:
    if entry["dtype"] not in _DTYPES:
        raise ModelLoadError(f"{path}: tensor {name} is {entry['dtype']}; only {', '.join(_DTYPES)} are supported")
    start, end = entry["data_offsets"]
    return data[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


class _Json:
    """A JSON object whose values are checked as they are taken; null counts as absent."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self._content = content

    def integer(self, key: str, default: int | None = None) -> int:
        value = self._take(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ModelLoadError(f"{self.path}: {key} is not an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._take(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelLoadError(f"{self.path}: {key} is not a number")
        return float(value)

    def get(self, key: str, default: Any = None) -> Any:
        value = self._content.get(key)
        return default if value is None else value

    def _take(self, key: str, default: Any) -> Any:
        value = self.get(key, default)
        if value is None:
            raise ModelLoadError(f"{self.path}: {key} is missing")
        return value


def is_tied(directory: Path) -> bool:
    """Whether the output matrix is the embedding."""
    return bool(read_json(directory / "config.json").get("tie_word_embeddings", False))


def read_config(directory: Path) -> ModelConfig:
    """The model's config; raises `ModelLoadError` for what the forward pass cannot do."""
    path = directory / "config.json"
    config = _Json(path, read_json(path))
    architecture = config.get("model_type")
    if architecture not in ARCHITECTURES:
        raise ModelLoadError(f"{path}: model type {architecture!r} is not supported, only {', '.join(ARCHITECTURES)}")
    if config.get("quantization_config"):
        raise ModelLoadError(f"{path}: quantised Hugging Face checkpoints are not supported")
    if config.get("hidden_act", "silu") != "silu":
        raise ModelLoadError(f"{path}: activation {config.get('hidden_act')!r} is not supported")
    hidden, heads = config.integer("hidden_size"), config.integer("num_attention_heads")
    head_dim = config.integer("head_dim", 128 if architecture == "qwen3" else hidden // max(heads, 1))
    return ModelConfig(
        architecture=architecture,
        num_layers=config.integer("num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=config.integer("intermediate_size"),
        num_heads=heads,
        num_kv_heads=config.integer("num_key_value_heads", heads),
        head_dim=head_dim,
        vocab_size=config.integer("vocab_size"),
        rms_norm_eps=config.number("rms_norm_eps", 1e-6),
        inverse_frequencies=_rotary(config, head_dim),
        max_position_embeddings=_context(config, architecture),
    )


def _context(config: _Json, architecture: str) -> int:
    context = config.integer("max_position_embeddings")
    uses_window = architecture == "mistral" or bool(config.get("use_sliding_window"))
    return min(context, config.integer("sliding_window", context)) if uses_window else context


def _rotary(config: _Json, head_dim: int) -> tuple[float, ...]:
    """Both forms: ``rope_parameters`` holds everything; older files have ``rope_theta`` beside ``rope_scaling``."""
    content = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(content, dict):
        raise ModelLoadError(f"{config.path}: the RoPE parameters are not an object")
    rope = _Json(config.path, content)
    theta = rope.number("rope_theta", config.number("rope_theta", _DEFAULT_THETA))
    partial = rope.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0))
    if partial != 1.0:
        raise ModelLoadError(f"{config.path}: rotary embedding of a part of each head is not supported")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return inverse_frequencies(head_dim, theta)
    if kind != "llama3":
        raise ModelLoadError(f"{config.path}: RoPE scaling {kind!r} is not supported, only 'llama3'")
    scaling = Llama3Scaling(
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_max_position_embeddings=rope.integer("original_max_position_embeddings"),
    )
    return inverse_frequencies(head_dim, theta, scaling)
