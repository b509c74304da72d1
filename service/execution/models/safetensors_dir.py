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
from service.execution.models.architecture import ModelConfig
from service.execution.models.json_file import JsonObject
from service.execution.models.mapped_file import release_pages
from service.execution.models.rope import Llama3Scaling, inverse_frequencies

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3")

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}  # NumPy has no bfloat16: its bits are read
_TYPE_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_DEFAULT_THETA = 10000.0


class SafetensorsDir:
    """The tensors of all safetensors files of a directory as a `TensorSource`."""

    def __init__(self, directory: Path) -> None:
        self._tensors: dict[str, tuple[str, NDArray[Any]]] = {}  # name -> (dtype in the file, array of its bits)
        self._files: list[np.memmap] = []
        for path in weight_files(directory):
            tensors, file = _open(path)
            self._tensors |= tensors
            self._files.append(file)

    def names(self) -> Iterable[str]:
        """Return the names of all tensors but the frequency tables of old checkpoints, which the config determines."""
        return (name for name in self._tensors if not name.endswith("rotary_emb.inv_freq"))

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._tensors[name][1].shape

    def stored(self, name: str) -> str:
        """Return the element type in the file."""
        return _TYPE_NAMES[self._tensors[name][0]]

    def read(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Convert rows of a tensor to float32, or copy them as they are, into ``out``."""
        dtype, data = self._tensors[name]
        rows = data[first : first + len(out)]
        if dtype != "BF16":
            out[...] = rows
        elif out.dtype == np.float32:  # bfloat16 is its upper half
            bits = out.view(np.uint32)
            bits[...] = rows
            bits <<= 16
        else:
            out.view(np.uint16)[...] = rows

    def raw(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Return rows of a matrix as they are stored."""
        return self._tensors[name][1][first : first + count].view(np.uint8)

    def release(self) -> None:
        """Give the memory of all pages that were read back."""
        for file in self._files:
            release_pages(file)


def weight_files(directory: Path) -> list[Path]:
    """Return the files that hold the weights, by the index if there is one. Raises `ModelLoadError`."""
    index = directory / "model.safetensors.index.json"
    if not index.exists():
        return [directory / "model.safetensors"]
    weight_map = JsonObject.read(index).object("weight_map")
    return [directory / name for name in sorted({weight_map.string(tensor) for tensor in weight_map})]


def _open(path: Path) -> tuple[dict[str, tuple[str, NDArray[Any]]], np.memmap]:
    try:
        with safe_open(path, framework="np"):  # checks the header against the file's length
            pass
        with path.open("rb") as start:
            (header_bytes,) = struct.unpack("<Q", start.read(8))
            header = json.loads(start.read(header_bytes))
        file = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + header_bytes)
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, struct.error) as error:
        raise ModelLoadError(f"{path}: not a complete safetensors file: {error}") from error
    header.pop("__metadata__", None)
    data = np.asarray(file)
    return {name: (entry["dtype"], _view(path, name, entry, data)) for name, entry in header.items()}, file


def _view(path: Path, name: str, entry: dict[str, Any], data: NDArray[np.uint8]) -> NDArray[Any]:
    if entry["dtype"] not in _DTYPES:
        raise ModelLoadError(f"{path}: tensor {name} is {entry['dtype']}; only {', '.join(_DTYPES)} are supported")
    start, end = entry["data_offsets"]
    return data[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def is_tied(directory: Path) -> bool:
    """Return whether the output matrix is the embedding."""
    return bool(JsonObject.read(directory / "config.json").get("tie_word_embeddings"))


def read_config(directory: Path) -> ModelConfig:
    """Return the model's config. Raises `ModelLoadError` for what the forward pass cannot do."""
    config = JsonObject.read(directory / "config.json")
    architecture = config.string("model_type")
    if architecture not in ARCHITECTURES:
        supported = ", ".join(ARCHITECTURES)
        raise ModelLoadError(f"{config.path}: model type {architecture!r} is not supported, only {supported}")
    if config.get("quantization_config"):
        raise ModelLoadError(f"{config.path}: quantised Hugging Face checkpoints are not supported")
    if (activation := config.string("hidden_act", "silu")) != "silu":
        raise ModelLoadError(f"{config.path}: activation {activation!r} is not supported")
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


def _context(config: JsonObject, architecture: str) -> int:
    context = config.integer("max_position_embeddings")
    uses_window = architecture == "mistral" or bool(config.get("use_sliding_window"))
    return min(context, config.integer("sliding_window", context)) if uses_window else context


def _rotary(config: JsonObject, head_dim: int) -> tuple[float, ...]:
    """Read either form: ``rope_parameters`` holds everything; older files have ``rope_theta`` and ``rope_scaling``."""
    rope = config.object("rope_parameters" if config.get("rope_parameters") else "rope_scaling")
    theta = rope.number("rope_theta", config.number("rope_theta", _DEFAULT_THETA))
    if rope.number("partial_rotary_factor", config.number("partial_rotary_factor", 1.0)) != 1.0:
        raise ModelLoadError(f"{config.path}: rotary embedding of a part of each head is not supported")
    kind = rope.string("rope_type", rope.string("type", "default"))
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
