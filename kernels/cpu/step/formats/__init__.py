"""The types of weights that a step computes with, by their names in a file: one file a type.

A file says how its type lies in a model's file and in packed memory, and packs the one into the other. `format.py` says
what they share.
"""

from collections.abc import Mapping

from kernels.cpu.step.formats.bfloat16 import BFloat16
from kernels.cpu.step.formats.float16 import Float16
from kernels.cpu.step.formats.format import Format
from kernels.cpu.step.formats.q4_0 import Q4_0
from kernels.cpu.step.formats.q4_1 import Q4_1
from kernels.cpu.step.formats.q4_k import Q4_K
from kernels.cpu.step.formats.q6_k import Q6_K
from kernels.cpu.step.formats.q8_0 import Q8_0

FORMATS: Mapping[str, Format] = {
    each.name: each for each in (Q4_0(), Q4_1(), Q8_0(), Q4_K(), Q6_K(), BFloat16(), Float16())
}
