"""Paged attention of prompts' chunks on tensor cores, beside decodes and alone, against its definition."""

import numpy as np
import pytest
from arrays import close, fill
from paged import MODELS, Case, build

from kernels.cuda import prefill
from kernels.cuda.kernel import Kernel
from kernels.cuda.ops import Ops
from kernels.cuda.simulated import simulator

SPREAD = 4  # weights are rounded to the type before they multiply the values
SMALL = (1, 1, 64)
FEWER_HEADS = {
    "llama-8b": (8, 2, 128),
    "qwen-32b": (5, 1, 128),
    "smollm2": (6, 2, 64),
    "80": (2, 2, 80),
    "96": (8, 1, 96),
}
CHUNKS = (1, 15, 16, 17, 64, 100)
MIXED = [(17, 33), (1, 17), (2, 67), (16, 16)]
every_model = pytest.mark.parametrize("model", MODELS)


@pytest.mark.parametrize("prefix", [0, 1, 15, 16, 17, 200])
def test_chunks_of_all_sizes_after_a_prefix_equal_the_reference(prefix: int) -> None:
    build("bfloat16", SMALL, [(chunk, prefix + chunk) for chunk in CHUNKS]).check(SPREAD)


@every_model
def test_chunks_beside_decodes_equal_the_reference(model: str) -> None:
    build("bfloat16", FEWER_HEADS[model], MIXED).check(SPREAD)


def test_chunks_in_float16_equal_the_reference() -> None:
    build("float16", (3, 1, 64), MIXED).check(SPREAD)


@pytest.mark.full
@every_model
def test_all_heads_in_all_chunks_after_a_long_prefix(model: str) -> None:
    build("bfloat16", MODELS[model], [(chunk, 200 + chunk) for chunk in CHUNKS]).check(SPREAD)


@pytest.mark.full
@every_model
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_lengths_in_thousands(model: str, dtype: str) -> None:
    build(dtype, FEWER_HEADS[model], [(20, 2100), (1, 2049), (5, 3000)]).check(SPREAD)


@pytest.mark.parametrize("junk", [np.nan, np.inf])
def test_what_lies_beyond_a_sequence_does_not_reach_it(junk: float) -> None:
    """Its weight is 0, and 0 times NaN or infinity is NaN."""
    case = build("bfloat16", SMALL, [(3, 19)])
    expected = case.attend()
    block = case.kv[case.tables[0][case.tables[1][0], 1], 1]
    assert np.isnan(block[:, :, 3:].astype(np.float32)).all()
    block[:, :, 3:] = junk
    assert case.attend().tobytes() == expected.tobytes()
    assert np.isfinite(expected.astype(np.float32)).all()


def test_later_tokens_of_the_chunk_are_not_seen() -> None:
    case = build("bfloat16", (3, 1, 64), [(40, 70)])
    before = case.attend()
    case.kv[case.tables[0][case.tables[1][0], 65 // 16], 1, :, :, 65 % 16] = 100
    after = case.attend()
    assert after[:35].tobytes() == before[:35].tobytes()
    assert (after[35:] != before[35:]).any(axis=-1).all()


def test_a_token_in_any_chunk_and_company_is_the_same_to_the_bit() -> None:
    case = build("bfloat16", (3, 1, 64), [(30, 75), (1, 17), (5, 9)])
    together = case.attend()
    tables, slots, _, _ = case.tables
    for first, last in ((0, 2), (7, 30)):
        part = (tables, slots[:1], np.array([0, last - first], np.int32), np.array([45 + last], np.int32))
        alone = Case(case.qkv[first:last], case.kv, part, case.heads, case.dtype).attend()
        assert alone.tobytes() == together[first:last].tobytes()


def test_large_scores_do_not_overflow() -> None:
    case = build("bfloat16", SMALL, [(20, 70)])
    case.qkv *= np.asarray(64, case.qkv.dtype)
    close(case.attend(), case.expected(), "bfloat16", spread=SPREAD)


def test_one_sequences_nan_stays_its_own() -> None:
    case = build("bfloat16", SMALL, [(20, 20), (20, 20)])
    case.kv[case.tables[0][case.tables[1][0], 0], 1] = np.nan
    out = case.attend().astype(np.float32)
    assert np.isnan(out[:20]).all()
    assert np.isfinite(out[20:]).all()


def launches(rows: list[tuple[int, int]]) -> list[tuple[str, tuple[int, ...], list[object]]]:
    """Return kernel, grid and scalars of each launch."""
    seen: list[tuple[str, tuple[int, ...], list[object]]] = []

    def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: object) -> None:
        seen.append((kernel.name, grid, [value for value in arguments if not isinstance(value, np.ndarray)]))

    case = build("bfloat16", SMALL, rows)
    tables = np.zeros((8, 64), np.int32)  # of one shape, whatever the lengths
    out = fill("bfloat16", len(case.qkv), case.heads, 64)
    ops = Ops(launch, simulator.multiply, np.zeros(1 << 16, np.float32), processors=4)
    ops.paged_attention(case.qkv, case.kv, 1, tables, *case.tables[1:], 1, out)
    return seen


def test_decodes_alone_are_launched_alike_whatever_their_lengths() -> None:
    """Only then can a captured graph be replayed."""
    assert launches([(1, 5), (1, 90)]) == launches([(1, 300), (1, 1)])
    assert not any("chunks" in name for name, _, _ in launches([(1, 5), (1, 90)]))


def test_a_batch_with_a_chunk_launches_for_both() -> None:
    assert [name.split("_")[1] for name, _, _ in launches([(1, 5), (3, 90)])] == ["partial", "merge", "chunks"]


def test_the_kernel_for_chunks_leaves_decodes_alone() -> None:
    def launch(kernel: Kernel, grid: tuple[int, ...], *arguments: object) -> None:
        if "chunks" in kernel.name:
            simulator.launch(kernel, grid, *arguments)

    case, out = build("bfloat16", SMALL, [(1, 5), (3, 9), (1, 1)]), fill("bfloat16", 5, 1, 64)
    ops = Ops(launch, simulator.multiply, np.zeros(66, np.float32), processors=4)
    ops.paged_attention(case.qkv, case.kv, 1, *case.tables, 1, out)
    assert [bool(np.isnan(token.astype(np.float32)).all()) for token in out] == [True, False, False, False, True]


@pytest.mark.parametrize("seed", range(20))
def test_tiles_cover_every_query_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    group = int(rng.integers(1, 9))
    tokens = prefill.LINES // group
    counts = rng.choice([1, 1, 2, tokens - 1, tokens, tokens + 1, 5 * tokens], rng.integers(1, 12))
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    found = []
    for tile in range(prefill.tiles(int(starts[-1]), len(counts), group)):
        row, first, count = prefill.find_tile(tokens, tile, starts, len(counts))
        assert starts[row] <= first
        found += range(first, first + max(count, 0))
    assert sorted(found) == list(range(starts[-1]))
