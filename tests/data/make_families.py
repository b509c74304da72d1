"""Make `families/` and `sentencepiece.json`: every supported family as a tiny random model, with transformers' logits.

    pip install torch transformers gguf sentencepiece    # only to make the data; no test needs them
    python tests/data/make_families.py

Each family is saved by transformers as a Hugging Face directory and written as GGUF, with the same weights in both:
they are rounded to the coarser of the two first. ``reference.npz`` holds tokens [2, length] and transformers' logits
[2, length, vocab] float32. ``sentencepiece.json`` holds a small SentencePiece vocabulary with expected encodings.
"""

import copy
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece
import torch
import transformers
from gguf import GGMLQuantizationType as Quantization
from make_tiny import CORPUS, SPECIAL
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

DIRECTORY = Path(__file__).parent
LENGTH = 24
VOCAB = 272
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Family:
    """One model: ``stored`` is the Hugging Face dtype, ``quantization`` that of the matrices in the GGUF."""

    name: str
    model_type: str
    config: dict[str, Any] = field(default_factory=dict)
    stored: torch.dtype = torch.float32
    quantization: Quantization = Quantization.F32
    shard_size: str = "1GB"


FAMILIES = [
    Family("llama2", "llama", {"num_key_value_heads": 4}, quantization=Quantization.Q4_0, shard_size="60KB"),
    Family("llama3", "llama", {"head_dim": 16, "rope_parameters": LLAMA3_ROPE}, torch.bfloat16, Quantization.BF16),
    Family("mistral", "mistral", {"sliding_window": None}, torch.float16, Quantization.F16),
    Family("qwen2", "qwen2", {"tie_word_embeddings": True}, quantization=Quantization.Q8_0),
    Family("qwen3", "qwen3", {"head_dim": 16}, torch.bfloat16),
    Family("smollm2", "llama", {"hidden_size": 64, "tie_word_embeddings": True}, quantization=Quantization.Q4_1),
    Family("wide-heads", "llama", {"head_dim": 24}, torch.float16),
]

GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def randomise(model: torch.nn.Module, family: Family) -> None:
    """Fill the model with weights large enough that attention, biases and norms all show in the logits."""
    generator = torch.Generator().manual_seed(11)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 2:
            values = rounded(noise * 1.5 / parameter.shape[1] ** 0.5, family.quantization)
        else:
            values = 1 + 0.2 * noise if "norm" in name else 0.5 * noise
        parameter.data = values.to(family.stored).float()


def rounded(matrix: torch.Tensor, quantization: Quantization) -> torch.Tensor:
    """The matrix as the quantisation can express it."""
    blocks = gguf.quantize(matrix.numpy(), quantization)
    return torch.from_numpy(gguf.dequantize(blocks, quantization).copy())


@torch.inference_mode()
def write_reference(model: torch.nn.Module, path: Path) -> None:
    """Two random sequences and their logits."""
    tokens = torch.randint(VOCAB, (2, LENGTH), generator=torch.Generator().manual_seed(5))
    np.savez_compressed(path, tokens=tokens.numpy().astype(np.int32), logits=model(tokens).logits.numpy())


def byte_tokenizer() -> Tokenizer:
    """Three special tokens, the 256 bytes and one merge."""
    tokens = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), "he"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("h", "e")]))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in SPECIAL])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def write_directory(model: transformers.PreTrainedModel, family: Family, directory: Path) -> None:
    """Save the Hugging Face form."""
    shutil.rmtree(directory, ignore_errors=True)
    stored = copy.deepcopy(model).to(family.stored)  # a copy, since this rounds the rotary frequencies too
    stored.save_pretrained(directory, max_shard_size=family.shard_size)
    byte_tokenizer().save(str(directory / "tokenizer.json"), pretty=False)


def write_gguf(model: transformers.PreTrainedModel, family: Family, path: Path) -> None:
    """Write the GGUF form, as llama.cpp's converter would."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama" if config.model_type == "mistral" else config.model_type)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    write_vocabulary(writer, family)
    if config.rope_parameters["rope_type"] == "llama3":
        plain = 1 / 500000.0 ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.numpy()).astype(np.float32))
    for name, parameter in model.named_parameters():
        add_tensor(writer, family, config, name, parameter.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tensor(writer: gguf.GGUFWriter, family: Family, config: Any, name: str, values: np.ndarray) -> None:
    """Add one tensor under its GGUF name, matrices quantised, q and k interleaved where llama.cpp wants it."""
    module, _, kind = name.rpartition(".")
    prefix = ""
    if module.startswith("model.layers."):
        _, _, index, module = module.split(".", 3)
        prefix = f"blk.{index}."
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    if module in heads and config.model_type in ("llama", "mistral"):
        values = interleaved(values, heads[module])
    quantization = family.quantization if values.ndim == 2 else Quantization.F32
    blocks = gguf.quantize(np.ascontiguousarray(values), quantization)
    writer.add_tensor(f"{prefix}{GGUF_NAMES[module]}.{kind}", blocks, raw_dtype=quantization)


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's permutation of q and k rows."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def write_vocabulary(writer: gguf.GGUFWriter, family: Family) -> None:
    """The same byte tokens as in tokenizer.json."""
    vocabulary = byte_tokenizer().get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    padding = [f"<|unused_{index}|>" for index in range(VOCAB - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if family.model_type.startswith("qwen") else "smollm")
    writer.add_token_list(tokens + padding)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)) + [5] * len(padding))
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


SENTENCES = ["", "Hello world", "the capital of France", " two  spaces ", "naïve — 日本 🎉", "a\nb", "1 <2> 3"]


def write_sentencepiece(path: Path) -> None:
    """Train a BPE model with byte fallback; store its pieces, scores and types as GGUF does, and encodings."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()),
        model_writer=model,
        vocab_size=380,
        model_type="bpe",
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kinds: list[tuple[int, Callable[[int], bool]]] = [
        (2, processor.is_unknown),
        (3, processor.is_control),
        (6, processor.is_byte),
        (5, processor.is_unused),
    ]
    ids = range(processor.get_piece_size())
    content = {
        "tokens": [processor.id_to_piece(token) for token in ids],
        "scores": [processor.get_score(token) for token in ids],
        "types": [next((kind for kind, test in kinds if test(token)), 1) for token in ids],
        "cases": [{"text": text, "ids": processor.encode(text)} for text in SENTENCES],
    }
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    """Write all families."""
    for family in FAMILIES:
        config = transformers.AutoConfig.for_model(family.model_type, **{**SMALL, **family.config})
        config.dtype = family.stored
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        randomise(model, family)
        directory = DIRECTORY / "families" / family.name
        write_directory(model, family, directory)
        write_gguf(model, family, directory / "model.gguf")
        write_reference(model, directory / "reference.npz")
    write_sentencepiece(DIRECTORY / "sentencepiece.json")


if __name__ == "__main__":
    main()
