"""The code for processors that this machine is not: compiled by LLVM, and read."""

import re
from functools import cache

import llvmlite.binding as llvm
import pytest

from kernels.cpu.step.activations import quantise, spread
from kernels.cpu.step.features import LEVELS, Features, of_flags, of_target
from kernels.cpu.step.formats.bfloat16 import product as product_bfloat16
from kernels.cpu.step.formats.q4_1 import product as product_q4_1
from kernels.cpu.step.formats.q6_k import product as product_q6_k
from kernels.cpu.step.formats.q8_0 import product as product_q8_0
from kernels.cpu.step.team import _wait
from kernels.cpu.step.vectors import FLOATS, PAIRS, Emit
from tests.kernels.step.words import ARM, X86, assembly

ARMS = {
    "+dotprod": Features("dotprod", bf16=False, wide=False),
    "+dotprod,+i8mm": Features("i8mm", bf16=False, wide=False),
    "": Features("generic", bf16=False, wide=False),
}
PRODUCTS = {"Q4_1": product_q4_1, "Q6_K": product_q6_k, "Q8_0": product_q8_0, "bfloat16": product_bfloat16}
DOT = {
    "avx512vnni": "vpdpbusd",
    "avxvnni": "vpdpbusd",
    "avx512bw": "vpmaddwd",
    "avx2": "vpmaddwd",
    "i8mm": "usdot",
    "dotprod": "sdot",
}
SATURATING = ("avx512bw", "avx2")
FUSED = re.compile(r"^\s*(vfn?m(add|sub)\w+|fml[as]|fn?madd|fn?msub)\s", re.MULTILINE)
CALLED = re.compile(r"^\s+(?:callq|bl)\s+(\w+)", re.MULTILINE)


@cache
def x86(product: str, level: str) -> str:
    return assembly(PRODUCTS[product].emit, 4, LEVELS[level], X86, level)


@cache
def arm(product: str, flags: str) -> str:
    return assembly(PRODUCTS[product].emit, 4, ARMS[flags], ARM, "generic", flags)


def count(instruction: str, code: str) -> int:
    return len(re.findall(rf"^\s*(?:{{vex}}\s+)?{instruction}\s", code, re.MULTILINE))


def others(dot: str) -> set[str]:
    """Return the instructions of other sets, but for words that are not products of bytes."""
    return set(DOT.values()) - {DOT.get(dot)}


@pytest.mark.parametrize("product", ["Q4_1", "Q6_K", "Q8_0"])
@pytest.mark.parametrize("level", LEVELS)
def test_a_level_multiplies_bytes_by_its_own_instruction(level: str, product: str) -> None:
    code, dot = x86(product, level), LEVELS[level].dot
    for name in others(dot):
        assert count(name, code) == 0
    if dot in DOT:
        tiles = 8 + 4 + 2 + 1 + 2 * 4 if LEVELS[level].wide else 2 + 1 + 2 * 2  # the last: of unpacked weights
        parts = {"avx512vnni": 1, "avxvnni": 2, "avx512bw": 1, "avx2": 2}[dot]
        if dot in SATURATING:  # bytes above 63 are widened first
            assert (count("vpmaddubsw", code) == 0) is (product == "Q8_0")
            parts *= 2 if product == "Q8_0" else 1
        assert count(DOT[dot], code) == 8 * parts * tiles
    else:
        assert count("pmulld", code) + count("pmaddwd", code) > 0


@pytest.mark.parametrize("product", ["Q4_1", "Q6_K"])
@pytest.mark.parametrize("flags", ARMS)
def test_arm_multiplies_bytes_by_the_best_that_it_has(flags: str, product: str) -> None:
    code, dot = arm(product, flags), ARMS[flags].dot
    for name in others(dot):
        assert count(name, code) == 0
    if dot in DOT:
        assert count(DOT[dot], code) == 8 * {"i8mm": 4, "dotprod": 12}[dot] * (2 + 1 + 2 * 2)


@pytest.mark.parametrize("product", PRODUCTS)
@pytest.mark.parametrize("level", LEVELS)
def test_only_wide_levels_use_32_registers_of_64_bytes(level: str, product: str) -> None:
    code = x86(product, level)
    assert ("%zmm" in code) == LEVELS[level].wide
    assert bool(re.search("%[xyz]mm(1[6-9]|[23][0-9])", code)) == LEVELS[level].wide


@pytest.mark.parametrize("product", ["Q4_1", "Q6_K"])
def test_scales_are_multiplied_and_added_apart(product: str) -> None:
    for code in [*(x86(product, level) for level in LEVELS), *(arm(product, flags) for flags in ARMS)]:
        assert FUSED.search(code) is None


@pytest.mark.parametrize("product", PRODUCTS)
def test_no_function_is_called_that_a_process_may_lack(product: str) -> None:
    """The C library has fmaf; the compiler's own, with what float16 needs, may not be there."""
    for code in [*(x86(product, level) for level in LEVELS), *(arm(product, flags) for flags in ARMS)]:
        assert set(CALLED.findall(code)) <= {"fmaf"}


@pytest.mark.parametrize(("word", "parameters"), [(quantise, 5), (spread, 4), (_wait, 2)])
def test_other_words_are_compiled_for_every_processor(word: object, parameters: int) -> None:
    """LLVM ends the process where it has no code for an instruction of another processor."""
    codes = [assembly(word.emit, parameters, LEVELS[level], X86, level) for level in LEVELS]
    codes += [assembly(word.emit, parameters, ARMS[flags], ARM, "generic", flags) for flags in ARMS]
    for code in codes:
        assert set(CALLED.findall(code)) <= {"sched_yield"}


def test_products_of_16_bit_weights_are_fused() -> None:
    for level in LEVELS:
        if level != "x86-64-v2":  # which calls the C library
            assert FUSED.search(x86("bfloat16", level))
    assert FUSED.search(arm("bfloat16", "+dotprod"))


@pytest.mark.parametrize("level", LEVELS)
def test_pairs_of_bfloat16_have_an_instruction_at_the_level_of_that_name(level: str) -> None:
    def function(emit: Emit, total, a, b) -> None:
        emit.store(emit.add_dot_pairs(emit.load(FLOATS, total), emit.load(PAIRS, a), emit.load(PAIRS, b)), total)

    code = assembly(function, 3, LEVELS[level], X86, level)
    assert count("vdpbf16ps", code) == LEVELS[level].bf16


def test_a_processor_has_the_best_that_its_flags_allow() -> None:
    wide = {"avx512f": True, "avx512bw": True, "avx2": True}
    assert of_flags({}) == LEVELS["x86-64-v2"]
    assert of_flags({"avx2": True}) == LEVELS["x86-64-v3"]
    assert of_flags({"avx2": True, "avxvnni": True}) == LEVELS["alderlake"]
    assert of_flags(wide) == LEVELS["x86-64-v4"]
    assert of_flags({**wide, "avxvnni": True, "avx512vnni": True}) == LEVELS["cascadelake"]
    assert of_flags({**wide, "avx512vnni": True, "avx512bf16": True}) == LEVELS["cooperlake"]
    assert of_flags({"dotprod": True, "i8mm": True}) == ARMS["+dotprod,+i8mm"]
    assert of_flags({"dotprod": True, "i8mm": False}) == ARMS["+dotprod"]


def test_the_processor_is_the_one_that_numba_compiles_for() -> None:
    here = of_flags(llvm.get_host_cpu_features())
    assert of_target({}) == here
    assert of_target({"NUMBA_CPU_NAME": "native-name"}) == here
    assert of_target({"NUMBA_CPU_NAME": "alderlake", "NUMBA_CPU_FEATURES": ""}) == LEVELS["alderlake"]
    assert of_target({"NUMBA_CPU_NAME": "generic"}) == LEVELS["x86-64-v2"]
    assert of_target({"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,-avxvnni"}) == LEVELS["x86-64-v3"]
