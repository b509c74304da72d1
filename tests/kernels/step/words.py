"""Makes functions of the words in `kernels.cpu.step.vectors` without Numba, for any processor that LLVM knows."""

import ctypes
from collections.abc import Callable
from functools import cache

import llvmlite.binding as llvm
from llvmlite import ir

from kernels.cpu.step.features import Features
from kernels.cpu.step.vectors import LONG, Emit

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"

EmitFunction = Callable[..., "ir.Value | None"]


def assembly(
    function: EmitFunction, parameters: int, features: Features, triple: str, cpu: str, flags: str = ""
) -> str:
    """Return the machine code, as text, of a function that takes so many int64."""
    machine = _machine(triple, cpu, flags)
    return str(machine.emit_assembly(_optimised(function, parameters, features, machine)))


class Native:
    """A function for this machine, to be called with addresses and numbers."""

    def __init__(self, function: EmitFunction, parameters: int, features: Features) -> None:
        flags = llvm.get_host_cpu_features().flatten()
        machine = _machine(llvm.get_process_triple(), llvm.get_host_cpu_name(), flags)
        self._engine = llvm.create_mcjit_compiler(_optimised(function, parameters, features, machine), machine)
        self._engine.finalize_object()
        address = self._engine.get_function_address("function")
        self._call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * parameters)(address)

    def __call__(self, *arguments: int) -> None:
        self._call(*arguments)


@cache
def _targets() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def _machine(triple: str, cpu: str, flags: str) -> llvm.TargetMachine:
    _targets()
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=flags, opt=3, reloc="pic")


def _optimised(
    function: EmitFunction, parameters: int, features: Features, machine: llvm.TargetMachine
) -> llvm.ModuleRef:
    module = ir.Module("words")
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    made = ir.Function(module, ir.FunctionType(ir.VoidType(), [LONG] * parameters), "function")
    builder = ir.IRBuilder(made.append_basic_block("entry"))
    function(Emit(builder, features), *made.args)
    builder.ret_void()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(parsed, passes)
    return parsed
