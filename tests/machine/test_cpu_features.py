"""The levels of instructions: which ones a machine has, and what Numba is told of the one that is asked for."""

import importlib
from typing import get_args

import pytest

from kernels.cpu.step import features
from service.config import CPUFeatures
from service.errors import ConfigError
from service.machine.cpu_features import LEVELS, levels_here

main = importlib.import_module("service.cli.main")  # whose package has a function of that name


def flags(*levels: str) -> dict[str, bool]:
    return {flag: True for level in levels for flag in LEVELS[level].flags}


def test_the_setting_the_levels_and_the_kernels_name_the_same_processors() -> None:
    assert get_args(CPUFeatures) == ("auto", *LEVELS)
    assert [level.cpu for level in LEVELS.values()] == list(features.LEVELS)


def test_a_level_s_flags_are_enough_for_its_products() -> None:
    for level in LEVELS.values():
        assert features.of_flags(dict.fromkeys(level.flags, True)) == features.LEVELS[level.cpu]


@pytest.mark.parametrize(
    ("has", "expected"),
    [
        ({}, []),
        ({"neon": True, "dotprod": True}, []),
        (flags("sse4"), ["sse4"]),
        (flags("avx-vnni"), ["avx-vnni", "avx2", "sse4"]),
        (flags("avx512-vnni"), ["avx512-vnni", "avx512", "avx2", "sse4"]),
        (flags("avx512-bf16", "avx-vnni"), list(LEVELS)),
        ({**flags("avx512-bf16"), "avx512bf16": False}, ["avx512-vnni", "avx512", "avx2", "sse4"]),
    ],
)
def test_a_machine_has_the_levels_whose_flags_it_has(has: dict[str, bool], expected: list[str]) -> None:
    assert levels_here(has) == expected


def test_numba_is_told_of_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "levels_here", lambda: ["avx-vnni", "avx2"])
    environment = {"NUMBA_CPU_NAME": "znver5", "NUMBA_CPU_FEATURES": "+avx512f"}
    main.limit_instructions("avx2", environment)
    assert environment == {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": ""}
    assert features.of_target(environment) == features.LEVELS["x86-64-v3"]


def test_without_a_level_numba_s_own_variables_hold() -> None:
    environment = {"NUMBA_CPU_NAME": "znver5"}
    main.limit_instructions("auto", environment)
    assert environment == {"NUMBA_CPU_NAME": "znver5"}


@pytest.mark.parametrize(("has", "named"), [(["avx2", "sse4"], "avx2, sse4"), ([], "none")])
def test_a_level_that_the_machine_lacks_is_refused_with_those_it_has(
    has: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "levels_here", lambda: has)
    environment: dict[str, str] = {}
    with pytest.raises(ConfigError, match=f"--cpu-features avx512: this CPU has {named}"):
        main.limit_instructions("avx512", environment)
    assert environment == {}


def test_this_machine_has_the_level_that_its_kernels_are_compiled_for() -> None:
    best = features.of_flags(dict.fromkeys((flag for name in levels_here() for flag in LEVELS[name].flags), True))
    assert levels_here() == [] or features.LEVELS[LEVELS[levels_here()[0]].cpu] == best
