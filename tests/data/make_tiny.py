"""Make `tests/data/tiny`, a chat model small enough for every test: three layers, random weights, 384 tokens.

    python tests/data/make_tiny.py

A Hugging Face directory like a real one, with a trained byte-level BPE and a ChatML template. Fixed seed: the same
files every time. Its answers are nonsense, but varied and mostly printable.
"""

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

DIRECTORY = Path(__file__).parent / "tiny"
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCAB, CONTEXT = 64, 3, 4, 2, 16, 128, 384, 2048

CORPUS = """system user assistant You are a helpful assistant. Hello! How are you today? What is the capital of France?
The capital of France is Paris. Tell me a story about a small boat and the sea. Once upon a time there was a fox who
lived in the forest with her children. Write a function that returns the sum of two numbers. def add(a, b): return a + b
Please explain why the sky is blue. When light from the sun meets the air, the short waves are scattered the most.
"""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "vocab_size": VOCAB,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "dtype": "float16",
}


def make_tokenizer() -> Tokenizer:
    """Train a byte-level BPE of ``VOCAB`` tokens on the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=[AddedToken(text, special=True, normalized=False) for text in SPECIAL],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS.splitlines(), trainer)
    return tokenizer


def loudness(tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Scale of each token's embedding [vocab, 1]: quiet for special tokens and stray bytes, which make no text."""
    texts = [tokenizer.decode([token], skip_special_tokens=True) for token in range(VOCAB)]
    scale = [1.0 if text.isascii() and text.isprintable() and text else 0.5 for text in texts]
    return np.array(scale, dtype=np.float32)[:, None]


def make_weights(tokenizer: Tokenizer) -> dict[str, NDArray[np.float16]]:
    """Random weights by Hugging Face names; unit-variance layers, so that context moves the logits."""
    rng = np.random.default_rng(7)

    def normal(rows: int, columns: int) -> NDArray[np.float32]:
        return (rng.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": normal(VOCAB, HIDDEN) * 2 * loudness(tokenizer)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors |= {
            prefix + "input_layernorm.weight": 1 + normal(1, HIDDEN)[0],
            prefix + "self_attn.q_proj.weight": 2 * normal(HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.k_proj.weight": 2 * normal(KV_HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.v_proj.weight": 2 * normal(KV_HEADS * HEAD_DIM, HIDDEN),
            prefix + "self_attn.o_proj.weight": 2 * normal(HIDDEN, HEADS * HEAD_DIM),
            prefix + "post_attention_layernorm.weight": 1 + normal(1, HIDDEN)[0],
            prefix + "mlp.gate_proj.weight": 2 * normal(INTERMEDIATE, HIDDEN),
            prefix + "mlp.up_proj.weight": 2 * normal(INTERMEDIATE, HIDDEN),
            prefix + "mlp.down_proj.weight": 2 * normal(HIDDEN, INTERMEDIATE),
        }
    tensors["model.norm.weight"] = 1 + normal(1, HIDDEN)[0]
    return {name: np.ascontiguousarray(tensor, dtype=np.float16) for name, tensor in tensors.items()}


def write_json(name: str, content: dict[str, object]) -> None:
    """Write ``content`` into the model's directory."""
    (DIRECTORY / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Write the directory."""
    DIRECTORY.mkdir(exist_ok=True)
    tokenizer = make_tokenizer()
    tokenizer.save(str(DIRECTORY / "tokenizer.json"))
    save_file(make_weights(tokenizer), DIRECTORY / "model.safetensors", metadata={"format": "pt"})
    write_json("config.json", dict(CONFIG))
    write_json("generation_config.json", {"bos_token_id": 1, "eos_token_id": [0, 2]})
    write_json(
        "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL[1],
            "eos_token": SPECIAL[2],
            "model_max_length": CONTEXT,
            "chat_template": CHAT_TEMPLATE,
        },
    )


if __name__ == "__main__":
    main()
