"""All sizes: for a GPU, and for the simulated device, where every path is to be taken and nothing is measured.

Sizes of the full scale are chosen for 80 GB of device memory and ten minutes for each of `test` and `bench`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.gpu.random_weights import ModelShape
from benchmarks.gpu.shapes import HEADS, LLAMA_3_8B, QWEN_2_5_32B, SMOLLM2_135M, TINY, TINY_WIDE

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SwitchScale:
    """Sizes of the presets' comparison: blocks of both pools, users at once, seconds of warm-up and measuring."""

    name: str
    shape: ModelShape
    device_blocks: int
    host_blocks: int
    users: int
    update_every: int  # steps
    warm_up_s: float
    measured_s: float = 14
    history: int = 1600  # tokens that a conversation begins with, at most
    question: int = 160  # tokens of a turn, on average
    answer: int = 340


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of all checks and measurements. ``dtype``: the type of weights, activations and KV."""

    dtype: str
    op_shapes: Mapping[str, ModelShape]  # for the checks of ops
    prompt_lengths: tuple[int, ...]  # for the checks of attention
    small: ModelShape  # used where the small model's weights are not installed
    small_layers: int
    requests: int  # run on both backends
    answer: int  # tokens of each request
    model: ModelShape  # measured
    copy_bytes: tuple[int, ...]  # sizes of a copy
    link_bytes: int  # moved by a measurement of a link
    group_bytes: tuple[int, ...]  # sizes of a block group that is swapped
    batches: tuple[int, ...]
    context: int  # tokens of each sequence that decodes
    steps: int
    chunk: int  # tokens of a prompt in a step
    prompt: int  # tokens
    matrix: int  # rows and columns
    repetitions: int
    launches: int  # repeated to time one
    switches: tuple[SwitchScale, ...]


# The paper's KV memory: what LLaMA-8B leaves of an A10 (24 GB), Qwen-32B of an A100 (80 GB). ShareGPT's histories.
LLAMA_ON_A10 = SwitchScale("llama_8b", LLAMA_3_8B, 2560, 8192, users=64, update_every=25, warm_up_s=6)
QWEN_ON_A100 = SwitchScale("qwen_32b", QWEN_2_5_32B, 1280, 4096, users=32, update_every=50, warm_up_s=8)

FULL = Scale(
    dtype="bfloat16",
    op_shapes={"llama-8b": LLAMA_3_8B, "qwen-32b": QWEN_2_5_32B, "smollm2": SMOLLM2_135M, **HEADS},
    prompt_lengths=(1, 15, 16, 17, 200, 3000),
    small=SMOLLM2_135M,
    small_layers=4,
    requests=12,
    answer=48,
    model=LLAMA_3_8B,
    copy_bytes=(64 << 10, 256 << 10, MIB, 2 * MIB, 8 * MIB, 64 * MIB, 256 * MIB),
    link_bytes=1024 * MIB,
    group_bytes=(8 * MIB, 32 * MIB, 128 * MIB),
    batches=(1, 2, 4, 8, 16, 32, 64),
    context=1024,
    steps=40,
    chunk=2048,
    prompt=8000,
    matrix=8192,
    repetitions=7,
    launches=200,
    switches=(LLAMA_ON_A10, QWEN_ON_A100),
)

TINY_CHATS = {"history": 60, "question": 12, "answer": 20}
TINY_SWITCHES = SwitchScale("tiny", TINY, 24, 96, users=8, update_every=5, warm_up_s=0.2, measured_s=0.5, **TINY_CHATS)

TINY_SCALE = Scale(
    dtype="float32",
    op_shapes={"tiny": TINY, "tiny-wide": TINY_WIDE, **HEADS},
    prompt_lengths=(1, 15, 16, 17, 150),
    small=TINY,
    small_layers=2,
    requests=6,
    answer=12,
    model=TINY,
    copy_bytes=(4 << 10, 64 << 10),
    link_bytes=256 << 10,
    group_bytes=(64 << 10,),
    batches=(1, 2, 4),
    context=40,
    steps=6,
    chunk=32,
    prompt=64,
    matrix=64,
    repetitions=2,
    launches=8,
    switches=(TINY_SWITCHES,),
)
