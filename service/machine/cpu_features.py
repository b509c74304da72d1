"""The levels of x86-64 that kernels can be compiled for, and which of them this machine has.

Numba compiles for the very CPU that it runs on, unless its variables name another. As a program,
``python -m service.machine.cpu_features``, this prints the levels that the machine has, the best first.
"""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Level:
    """``cpu``: the processor of LLVM whose code this is. ``flags``: what that code needs, by LLVM's names."""

    cpu: str
    flags: tuple[str, ...]


_V2 = ("cx16", "popcnt", "sse4.2", "ssse3")
_V3 = (*_V2, "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

LEVELS: Mapping[str, Level] = {
    "avx512-bf16": Level("cooperlake", (*_V4, "avx512vnni", "avx512bf16")),
    "avx512-vnni": Level("cascadelake", (*_V4, "avx512vnni")),
    "avx512": Level("x86-64-v4", _V4),
    "avx-vnni": Level("alderlake", (*_V3, "avxvnni", "gfni")),
    "avx2": Level("x86-64-v3", _V3),
    "sse4": Level("x86-64-v2", _V2),
}
"""By their names for operators, the best first."""


def levels_here(flags: Mapping[str, bool] | None = None) -> list[str]:
    """Return the levels that a machine with these flags has; this machine, if they are None."""
    if flags is None:
        from llvmlite.binding import get_host_cpu_features  # noqa: PLC0415 - only who forces a level waits for it

        flags = get_host_cpu_features()
    return [name for name, level in LEVELS.items() if all(flags.get(flag) for flag in level.flags)]


def compile_for(level: str, environment: MutableMapping[str, str]) -> None:
    """Set the variables that Numba reads when it is loaded."""
    environment["NUMBA_CPU_NAME"] = LEVELS[level].cpu
    environment["NUMBA_CPU_FEATURES"] = ""  # none beyond that CPU's


if __name__ == "__main__":
    print(*levels_here(), sep="\n")
