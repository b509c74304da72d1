"""The instruction sets that the kernels of a step use, by the processor that Numba compiles for.

That is this machine's, unless ``NUMBA_CPU_NAME`` names one of `LEVELS`, as ``--cpu-features`` and the container image
do.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

import llvmlite.binding

DOTS = ("avx512vnni", "avxvnni", "avx512bw", "avx2", "i8mm", "dotprod")
"""Sets of instructions with products of bytes, the best first. NEON has i8mm, and dotprod for signed bytes."""


@dataclass(frozen=True, slots=True)
class Features:
    """What differs between processors. All else is left to LLVM, which splits long vectors into what there is.

    ``dot``: the product of unsigned and signed bytes, by the instruction's set, `DOTS` or generic.  ``bf16``: whether
    there are dot products of bfloat16 (AVX-512).  ``wide``: whether there are 32 vector registers of 64 bytes.
    """

    dot: str
    bf16: bool
    wide: bool

    def __str__(self) -> str:
        return "+".join([self.dot, *(["avx512bf16"] if self.bf16 else [])])


LEVELS: Mapping[str, Features] = {
    "cooperlake": Features("avx512vnni", bf16=True, wide=True),
    "cascadelake": Features("avx512vnni", bf16=False, wide=True),
    "x86-64-v4": Features("avx512bw", bf16=False, wide=True),
    "alderlake": Features("avxvnni", bf16=False, wide=False),
    "x86-64-v3": Features("avx2", bf16=False, wide=False),
    "x86-64-v2": Features("generic", bf16=False, wide=False),
}
"""By the names of processors that LLVM knows."""


def of_flags(flags: Mapping[str, bool]) -> Features:
    """Return the best that a processor with these flags, by LLVM's names, has."""
    found = next((dot for dot in DOTS if flags.get(dot)), "generic")
    wide = bool(flags.get("avx512f") and flags.get("avx512bw"))
    return Features(found, bf16=bool(wide and flags.get("avx512bf16")), wide=wide)


def of_target(environment: Mapping[str, str] = os.environ) -> Features:
    """Return the features of the processor that Numba compiles for, by its variables."""
    name = environment.get("NUMBA_CPU_NAME", "")
    listed = environment.get("NUMBA_CPU_FEATURES", "" if name == "generic" else None)
    if name in LEVELS:
        return LEVELS[name]
    if listed is None:
        return of_flags(llvmlite.binding.get_host_cpu_features())
    return of_flags({flag[1:]: flag[0] == "+" for flag in listed.split(",") if flag})


FEATURES = of_target()
