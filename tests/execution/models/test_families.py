"""Every supported family, from a Hugging Face directory and from GGUF: the forward pass gives transformers' logits.

The data is made by tests/data/make_families.py. Between them the files are float32, float16, bfloat16, Q4_0, Q4_1,
Q8_0, sharded, tied and untied, with biases, with q and k norms, with scaled RoPE and with heads of unusual size.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from allocator import BLOCK_TOKENS, Extent
from kernels import cpu
from service.core.messages.plan import Row
from service.execution.batch import Batcher, SlotMemory
from service.execution.kv import allocate_kv_pool
from service.execution.memory import Array, HostMemory
from service.execution.model import LlamaModel
from service.execution.models.loading import LoadedModel, load_model

FAMILIES = Path(__file__).parents[2] / "data" / "families"
NAMES = ["llama2", "llama3", "mistral", "qwen2", "qwen3", "smollm2", "wide-heads"]


def all_logits(loaded: LoadedModel, tokens: Array) -> Array:
    """Return logits [sequences, length, vocab] of ``tokens`` [sequences, length], all in one batch."""
    sequences, length = tokens.shape
    blocks = -(-length // BLOCK_TOKENS)
    sizes = {"max_positions": length, "max_tokens": tokens.size, "max_draws": tokens.size}
    model = LlamaModel(loaded.config, loaded.weights, cpu, HostMemory(), **sizes)
    rows = [
        Row(slot, 0, tuple(prompt), (Extent(pool=0, start=slot * blocks, length=blocks),), draws_token=False)
        for slot, prompt in enumerate(tokens.tolist())
    ]
    batch, changes = Batcher(sequences, sequences * blocks).build(rows)
    slots = SlotMemory.allocate(HostMemory(), sequences, sequences * blocks)
    slots.change(changes, cpu)
    batch = replace(batch, logits_indices=np.arange(tokens.size, dtype=np.int32))
    logits = model.forward(batch, slots, allocate_kv_pool(loaded.config, sequences * blocks))
    return logits.reshape(sequences, length, -1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("file", ["", "model.gguf"], ids=["safetensors", "gguf"])
def test_logits_are_those_of_transformers(name: str, file: str) -> None:
    reference = np.load(FAMILIES / name / "reference.npz")
    logits = all_logits(load_model(FAMILIES / name / file), reference["tokens"])
    largest = np.abs(reference["logits"]).max()
    np.testing.assert_allclose(logits, reference["logits"], rtol=1e-4, atol=1e-5 * largest)


def test_every_stored_family_is_compared() -> None:
    assert sorted(path.name for path in FAMILIES.iterdir()) == sorted(NAMES)
