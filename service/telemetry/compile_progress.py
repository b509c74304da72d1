"""What the first start compiles, and how much is left: a bar on a terminal, else lines of the log.

Later starts load from the cache what the first one compiled, in so short a time that there is no line.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

log = structlog.get_logger(__name__)

LINE_EVERY_S = 1.0

Report = Callable[[str, int, int], None]


@contextmanager
def compile_progress(stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> Iterator[Report]:
    """Yield what is to be told a name, its number from 1 on, and of how many, before each compilation."""
    stream = stream or sys.stderr
    if not stream.isatty():
        yield _lines(clock)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=stream), transient=True) as bar:
        task = bar.add_task("kernels", total=None)

        def show(name: str, number: int, count: int) -> None:
            bar.update(task, description=f"kernels: {name}", completed=number - 1, total=count)

        yield show


def _lines(clock: Callable[[], float]) -> Report:
    """Return a report that writes at most one line for each `LINE_EVERY_S`, the first after that time."""
    last = clock()

    def line(name: str, number: int, count: int) -> None:
        nonlocal last
        if clock() - last >= LINE_EVERY_S:
            last = clock()
            log.info("compiling", kernel=name, number=number, count=count)

    return line
