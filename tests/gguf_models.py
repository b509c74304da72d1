"""GGUF models of random weights in any mixture of types, small enough for a test."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from kernels.cpu.step.formats import FORMATS
from tests.stored_weights import quantization, random_rows

TOKENIZER = Path(__file__).parent / "data" / "families" / "llama2" / "model.gguf"
VOCAB = 272  # of that file


@dataclass(frozen=True)
class Shape:
    """The sizes of a model whose rows are whole blocks of 256 weights."""

    architecture: str = "llama"
    layers: int = 2
    hidden: int = 256
    intermediate: int = 512
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64

    def matrices(self) -> dict[str, tuple[int, int]]:
        """Return the shape of each matrix of a layer by its name there."""
        kv = self.kv_heads * self.head_dim
        return {
            "attn_q": (self.heads * self.head_dim, self.hidden),
            "attn_k": (kv, self.hidden),
            "attn_v": (kv, self.hidden),
            "attn_output": (self.hidden, self.heads * self.head_dim),
            "ffn_gate": (self.intermediate, self.hidden),
            "ffn_up": (self.intermediate, self.hidden),
            "ffn_down": (self.hidden, self.intermediate),
        }


def write_model(path: Path, default: str, types: Mapping[str, str] | None = None, shape: Shape | None = None) -> Path:
    """Write a model of matrices of type ``default``, or that of ``types`` by the names of `Shape.matrices`.

    ``token_embd`` and ``output`` are such names too; without ``output`` the model is tied.
    """
    shape, types, rng = shape or Shape(), types or {}, np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, shape.architecture)
    _add_metadata(writer, shape)

    def add_matrix(name: str, rows: int, columns: int) -> None:
        key = name.rpartition(".")[2]
        _add_matrix(writer, f"{name}.weight", types.get(key, default), (rows, columns), rng)

    add_matrix("token_embd", VOCAB, shape.hidden)
    if "output" in types:
        add_matrix("output", VOCAB, shape.hidden)
    writer.add_tensor("output_norm.weight", _norm(shape.hidden, rng))
    for layer in range(shape.layers):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", _norm(shape.hidden, rng))
        for name, size in shape.matrices().items():
            add_matrix(f"blk.{layer}.{name}", *size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_metadata(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_block_count(shape.layers)
    writer.add_context_length(512)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    fields = gguf.GGUFReader(TOKENIZER).fields
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(fields["tokenizer.ggml.tokens"].contents())
    writer.add_token_types(fields["tokenizer.ggml.token_type"].contents())
    writer.add_token_merges(fields["tokenizer.ggml.merges"].contents())
    writer.add_eos_token_id(2)


def _add_matrix(
    writer: gguf.GGUFWriter, name: str, kind: str, shape: tuple[int, int], rng: np.random.Generator
) -> None:
    if kind in FORMATS:
        raw = random_rows(kind, *shape, rng)
    elif kind == "I32":
        raw = np.zeros(shape, np.int32)
    else:
        raw = gguf.quantize(rng.standard_normal(shape, np.float32) / np.sqrt(shape[1]), quantization(kind))
    writer.add_tensor(name, raw, raw_dtype=quantization(kind))


def _norm(length: int, rng: np.random.Generator) -> np.ndarray:
    return 1 + rng.standard_normal(length, np.float32) / 8
