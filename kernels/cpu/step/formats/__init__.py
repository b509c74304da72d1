"""The types of weights that a step computes with, by their names in a file: one file a type.

A file says how its type lies in a model's file and in packed memory, packs the one into the other, and has the code
that loads it in a product. `format.py` says what they share.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kernels.cpu.step.formats.bfloat16 import BFloat16, embed_bfloat16, linear_bfloat16
from kernels.cpu.step.formats.float16 import Float16, embed_float16, linear_float16
from kernels.cpu.step.formats.format import Format
from kernels.cpu.step.formats.q4_0 import Q4_0, embed_q4_0, linear_q4_0
from kernels.cpu.step.formats.q4_1 import Q4_1, embed_q4_1, linear_q4_1
from kernels.cpu.step.formats.q4_k import Q4_K, embed_q4_k, linear_q4_k
from kernels.cpu.step.formats.q6_k import Q6_K, embed_q6_k, linear_q6_k
from kernels.cpu.step.formats.q8_0 import Q8_0, embed_q8_0, linear_q8_0
from kernels.cpu.step.unit_kernel import UnitKernel

FORMATS: Mapping[str, Format] = {
    each.name: each for each in (Q4_0(), Q4_1(), Q8_0(), Q4_K(), Q6_K(), BFloat16(), Float16())
}


@dataclass(frozen=True, slots=True)
class FormatKernels:
    """What a step computes with a type: products (`products.LinearOp`) and rows (`embedding`)."""

    linear: UnitKernel
    embed: UnitKernel


KERNELS: Mapping[str, FormatKernels] = {
    "Q4_0": FormatKernels(linear_q4_0, embed_q4_0),
    "Q4_1": FormatKernels(linear_q4_1, embed_q4_1),
    "Q8_0": FormatKernels(linear_q8_0, embed_q8_0),
    "Q4_K": FormatKernels(linear_q4_k, embed_q4_k),
    "Q6_K": FormatKernels(linear_q6_k, embed_q6_k),
    "bfloat16": FormatKernels(linear_bfloat16, embed_bfloat16),
    "float16": FormatKernels(linear_float16, embed_float16),
}
