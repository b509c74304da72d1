"""Kernels are compiled one by one, and each is announced."""

from collections.abc import Callable

from kernels.cpu.step.compiling import compile_all, unreported
from kernels.cpu.step.unit_kernel import unit_kernel


def test_each_is_announced_before_it_is_compiled() -> None:
    seen: list[str] = []

    def work(name: str) -> tuple[str, Callable[[], None]]:
        return name, lambda: seen.append(f"{name} compiled")

    compile_all([work("first"), work("second")], lambda name, *numbers: seen.append(f"{name}, {numbers}"))
    assert seen == ["first, (1, 2)", "first compiled", "second, (2, 2)", "second compiled"]


def test_nobody_need_listen() -> None:
    @unit_kernel
    def one(op: int, step: int, unit: int, scratch: int) -> None:
        pass

    compile_all([(one.name, one.compile)], unreported)
    assert one.address
