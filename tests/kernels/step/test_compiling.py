"""Kernels are compiled one by one, and each is announced."""

from kernels.cpu.step.compiling import compile_all, unreported
from kernels.cpu.step.unit_kernel import UnitKernel


def kernel(name: str) -> UnitKernel:
    def function(op: int, step: int, unit: int, scratch: int) -> None:
        pass

    function.__name__ = name
    return UnitKernel(function)


def test_each_is_announced_before_it_is_compiled() -> None:
    kernels, seen = [kernel("first"), kernel("second")], []
    compile_all(
        [(each.name, each.compile) for each in kernels],
        lambda *told: seen.append((*told, [each.is_compiled for each in kernels])),
    )
    assert seen == [("first", 1, 2, [False, False]), ("second", 2, 2, [True, False])]
    assert all(each.is_compiled for each in kernels)


def test_nobody_need_listen() -> None:
    one = kernel("one")
    compile_all([(one.name, one.compile)], unreported)
    assert one.address
