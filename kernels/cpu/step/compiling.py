"""Compiles kernels one by one, and says so: the first start takes long enough for people to wonder."""

from collections.abc import Callable, Sequence

Report = Callable[[str, int, int], None]
"""Is told a name, its number from 1 on, and of how many, before something is compiled or loaded from the cache."""


def compile_all(work: Sequence[tuple[str, Callable[[], None]]], report: Report) -> None:
    """Carry out named work, such as `UnitKernel.compile`, in order."""
    for number, (name, compile_one) in enumerate(work, 1):
        report(name, number, len(work))
        compile_one()


def unreported(name: str, number: int, count: int) -> None:
    """Tell nobody."""
