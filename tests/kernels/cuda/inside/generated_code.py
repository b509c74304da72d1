"""What the compilers make of the kernels for sm_80 and sm_90: registers, spills, calls, 16-byte accesses."""

from collections.abc import Callable
from pathlib import Path

import pytest
from machine_code import assemble
from numba import cuda
from numba.cuda.types import int64

from kernels.cuda import (
    attention,
    copying,
    fragments,
    logits,
    logprobs,
    norms,
    pointwise,
    prefill,
    rotary,
    sampling,
    tokens,
)
from kernels.cuda.elements import BFLOAT16, BY_NAME, FLOAT16, FLOAT32, Elements
from kernels.cuda.kernel import Kernel, Longs

SHARED_BYTES = 48 << 10  # a block's, without asking the driver for more
# Head sizes, and query heads of a KV head, that models have.
GROUPS = [
    *((64, group) for group in (1, 2, 3, 4, 7, 8)),
    *((80, 1), (96, 1)),
    *((128, group) for group in (1, 2, 3, 4, 5, 6, 7, 8)),
]
SMALL_HEADS = [(32, 2), (48, 1)]  # which tensor cores do not serve
ARCHITECTURES = {"sm_80": (8, 0), "sm_90": (9, 0)}
SINGLE = [
    *(logits.add_biases, logits.penalize, logits.clear_rows),
    *(tokens.pick_tokens, tokens.put_tokens, tokens.count_tokens),
]
UNTYPED = [
    *(pointwise.take_rows(), pointwise.repeat_row(), copying.move_runs(), copying.copy_runs()),
    *(logits.finite_rows(), sampling.sample(), logprobs.top_logprobs()),
]
VECTORS = {  # the fewest 16-byte loads and stores of a kernel, by how its name begins; the first entry that fits counts
    "attention_chunks": (16, 2),
    "attention_merge": (0, 1),  # merges single floats
    "add_rms_norm": (3, 2),
    "rope_store_kv": (4, 4),
    **dict.fromkeys(("rope", "store_kv"), (2, 2)),
    **dict.fromkeys(("rms_norm", "head_rms_norm", "silu_mul"), (2, 1)),
    **dict.fromkeys(("take_rows", "repeat_row", "move_runs", "copy_runs"), (1, 1)),
    **dict.fromkeys(("finite_rows", "sample", "top_logprobs"), (3, 0)),  # what they write are single numbers
}


def typed(elements: Elements) -> list[Kernel]:
    units = "rows" if elements in prefill.TYPES else "tokens"
    kernels = [norms.rms_norm(elements), norms.add_rms_norm(elements), pointwise.silu_mul(elements)]
    for head_dim in (64, 80, 96, 128):
        kernels += [make(elements, head_dim) for make in (norms.head_rms_norm, rotary.rope, rotary.store_kv)]
        kernels += [rotary.rope_store_kv(elements, head_dim), attention.merge(elements, head_dim, units)]
    kernels += [attention.partial(elements, *shape, units) for shape in GROUPS]
    for head_dim, group in SMALL_HEADS:
        kernels += [
            attention.partial(elements, head_dim, group, "tokens"),
            attention.merge(elements, head_dim, "tokens"),
        ]
    return kernels + [prefill.chunks(elements, *shape) for shape in GROUPS if prefill.serves(elements, *shape)]


SHORT = {  # by the kernel's name: what the default models and the two others of the tests run
    *(f"{name}_bfloat16" for name in ("rms_norm", "add_rms_norm", "silu_mul")),
    *(f"{name}_bfloat16_128" for name in ("head_rms_norm", "rope", "store_kv", "rope_store_kv")),
    *(f"attention_partial_rows_bfloat16_{shape}" for shape in ("64_3", "80_1", "96_1", "128_4", "128_5", "128_8")),
    *(f"attention_chunks_bfloat16_{shape}" for shape in ("64_3", "80_1", "96_1", "128_4", "128_5")),
    *("attention_merge_rows_bfloat16_128", "attention_partial_rows_float16_128_4", "attention_chunks_float16_128_4"),
    *("attention_partial_tokens_float32_128_4", "rope_store_kv_float32_128"),
    *("attention_partial_tokens_bfloat16_32_2", "attention_merge_tokens_bfloat16_32"),
    *("attention_partial_rows_bfloat16_128_7", "attention_chunks_bfloat16_128_7"),
}
KERNELS = {kernel.name: kernel for kernel in [*UNTYPED, *(k for e in BY_NAME.values() for k in typed(e))]}


def cases() -> list[object]:
    short = SHORT | {kernel.name for kernel in UNTYPED}
    assert short <= KERNELS.keys()
    return [pytest.param(name, marks=[] if name in short else pytest.mark.full) for name in KERNELS]


def vectors_meant(name: str) -> tuple[int, int]:
    if name.startswith("attention_partial"):  # all of K, of V, and of each query
        return int(name.rpartition("_")[2]) + 2, 0
    return next(least for begin, least in VECTORS.items() if name.startswith(begin))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", cases())
def test_no_spills_no_calls_16_bytes_and_registers_in_budget(name: str, architecture: str, tmp_path: Path) -> None:
    kernel = KERNELS[name]
    code = assemble(kernel, ARCHITECTURES[architecture], tmp_path)
    print(name, architecture, code)
    assert code.spilled == 0
    assert code.calls == ()
    assert code.registers <= kernel.registers
    assert code.shared_bytes <= SHARED_BYTES
    assert (code.products > 0) == name.startswith("attention_chunks")
    least_loads, least_stores = vectors_meant(name)
    assert code.loads_16 >= least_loads
    assert code.stores_16 >= least_stores


def test_both_products_of_a_tile_are_written_out(tmp_path: Path) -> None:
    """An index into registers that is known only at run time would move them to memory."""
    code = assemble(prefill.chunks(BFLOAT16, 128, 4), (9, 0), tmp_path)
    assert code.products == 2 * (fragments.KEYS // 8) * (128 // 16)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("make", SINGLE, ids=lambda make: make.__name__)
def test_single_numbers_neither_spill_nor_call(make: Callable[[], Kernel], architecture: str, tmp_path: Path) -> None:
    code = assemble(make(), ARCHITECTURES[architecture], tmp_path)
    assert (code.spilled, code.calls) == (0, ())
    assert code.registers <= make().registers


def test_a_division_of_64_bits_is_seen(tmp_path: Path) -> None:
    """The check can fail."""

    def divide(values: object, by: int) -> None:
        values[cuda.threadIdx.x] //= by

    code = assemble(Kernel("divide", divide, (Longs, int64), (32, 1), 255), (9, 0), tmp_path)
    assert any("div" in call or "rem" in call for call in code.calls)


def test_types_are_named_as_their_arrays_are() -> None:
    assert [BY_NAME[name] for name in ("float32", "float16", "bfloat16")] == [FLOAT32, FLOAT16, BFLOAT16]
