"""A Llama-family model in a GGUF file: its config and its tensors under Hugging Face's names."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import ModelLoadError
from service.execution.models.architecture import ModelConfig
from service.execution.models.gguf_file import GgufFile
from service.execution.models.rope import inverse_frequencies

# Architectures by their name in the file; True: q and k rows are stored interleaved for llama.cpp's rotary layout.
ARCHITECTURES = {"llama": True, "qwen2": False, "qwen3": False}

_ROPE_FACTORS = "rope_freqs.weight"

_GLOBAL_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


class GgufTensors:
    """The tensors of a GGUF file as a `TensorSource`."""

    def __init__(self, file: GgufFile, config: ModelConfig) -> None:
        self._file = file
        self._config = config
        self._names = {_hugging_face_name(name): name for name in file.tensors if name != _ROPE_FACTORS}

    def names(self) -> Iterable[str]:
        """Return Hugging Face names; a tensor without one keeps its own."""
        return self._names

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, outermost dimension first."""
        return self._file.shape(self._names[name])

    def stored(self, name: str) -> str:
        """Return the element type in the file: NumPy's name, or the quantisation's."""
        return self._file.stored(self._names[name])

    def read(self, name: str, first: int, out: NDArray[Any]) -> None:
        """Dequantise rows of a tensor into ``out``, q and k rows in half-split rotary order."""
        if not self._is_interleaved(name):
            self._file.read(self._names[name], first, out)
            return
        begin, count, order = self._stored_rows(first, len(out))
        rows = np.empty((count, *out.shape[1:]), out.dtype)
        self._file.read(self._names[name], begin, rows)
        np.take(rows, order, axis=0, out=out, mode="clip")  # all are in bounds; "raise" would copy again

    def raw(self, name: str, first: int, count: int) -> NDArray[np.uint8]:
        """Return rows of a matrix as they are stored, q and k rows in half-split rotary order."""
        if not self._is_interleaved(name):
            return self._file.raw(self._names[name], first, count)
        begin, count, order = self._stored_rows(first, count)
        return self._file.raw(self._names[name], begin, count)[order]

    def release(self) -> None:
        """Give the memory of what was read back."""
        self._file.release()

    def _stored_rows(self, first: int, count: int) -> tuple[int, int, NDArray[np.intp]]:
        """Return the first and the number of the file's rows that hold ``count`` rows, and their order among them."""
        order = _interleaved(np.arange(first, first + count), self._config.head_dim)
        begin = int(order.min())
        return begin, int(order.max()) + 1 - begin, order - begin

    def _is_interleaved(self, name: str) -> bool:
        return ARCHITECTURES[self._config.architecture] and (".q_proj." in name or ".k_proj." in name)


def require_served(architecture: str) -> None:
    """Raise `ModelLoadError` for a family that the forward pass is not made for."""
    if architecture not in ARCHITECTURES:
        raise ModelLoadError(f"architecture {architecture!r} is not supported, only {', '.join(ARCHITECTURES)}")


def read_config(file: GgufFile) -> ModelConfig:
    """Return the config in the file's metadata. Raises `ModelLoadError` for what the forward pass cannot do."""
    architecture = file.require("general.architecture", str)
    require_served(architecture)
    if file.get(f"{architecture}.expert_count", int):
        raise ModelLoadError("mixture-of-experts models are not supported")
    if "token_embd.weight" not in file.tensors:
        raise ModelLoadError("tensor token_embd.weight is missing")
    hidden = file.require(f"{architecture}.embedding_length", int)
    heads = file.require(f"{architecture}.attention.head_count", int)
    head_dim = file.get(f"{architecture}.attention.key_length", int) or hidden // max(heads, 1)
    context = file.require(f"{architecture}.context_length", int)
    return ModelConfig(
        architecture=architecture,
        num_layers=file.require(f"{architecture}.block_count", int),
        hidden_size=hidden,
        intermediate_size=file.require(f"{architecture}.feed_forward_length", int),
        num_heads=heads,
        num_kv_heads=file.get(f"{architecture}.attention.head_count_kv", int) or heads,
        head_dim=head_dim,
        vocab_size=file.shape("token_embd.weight")[0],
        rms_norm_eps=_shortest(file.require(f"{architecture}.attention.layer_norm_rms_epsilon", float)),
        inverse_frequencies=_rotary(file, architecture, head_dim),
        max_position_embeddings=min(context, file.get(f"{architecture}.attention.sliding_window", int) or context),
    )


def _rotary(file: GgufFile, architecture: str, head_dim: int) -> tuple[float, ...]:
    scaling = file.get(f"{architecture}.rope.scaling.type", str) or "none"
    if scaling != "none" or (file.get(f"{architecture}.rope.scale_linear", float) or 1.0) != 1.0:
        raise ModelLoadError(f"RoPE scaling {scaling!r} is not supported")
    if (file.get(f"{architecture}.rope.dimension_count", int) or head_dim) != head_dim:
        raise ModelLoadError("rotary embedding of a part of each head is not supported")
    theta = file.get(f"{architecture}.rope.freq_base", float) or 10000.0
    if _ROPE_FACTORS not in file.tensors:
        return inverse_frequencies(head_dim, theta)
    if file.shape(_ROPE_FACTORS) != (head_dim // 2,):
        raise ModelLoadError(f"tensor {_ROPE_FACTORS} has shape {file.shape(_ROPE_FACTORS)}, not ({head_dim // 2},)")
    factors = np.empty(head_dim // 2, dtype=np.float32)
    file.read(_ROPE_FACTORS, 0, factors)
    return inverse_frequencies(head_dim, theta, factors)


def _hugging_face_name(name: str) -> str:
    if name in _GLOBAL_NAMES:
        return _GLOBAL_NAMES[name]
    block, _, rest = name.partition(".")
    index, _, rest = rest.partition(".")
    tensor, _, suffix = rest.rpartition(".")
    if block != "blk" or not index.isdecimal() or tensor not in _LAYER_NAMES:
        return name
    return f"model.layers.{index}.{_LAYER_NAMES[tensor]}.{suffix}"


def _interleaved(rows: NDArray[np.intp], head_dim: int) -> NDArray[np.intp]:
    """Return where llama.cpp stores rows: it interleaves the two halves of each head."""
    head, row = np.divmod(rows, head_dim)
    half, pair = np.divmod(row, head_dim // 2)
    order: NDArray[np.intp] = head * head_dim + 2 * pair + half
    return order


def _shortest(value: float) -> float:
    """Return the shortest decimal of the same float32: 1e-5 reads back as 9.999999747378752e-06."""
    return float(np.format_float_scientific(np.float32(value))) if math.isfinite(value) else value
