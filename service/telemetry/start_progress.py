"""What a start is doing and how much is left: a line that moves on a terminal, else lines of the log.

Most of a first start compiles, and takes long enough for people to wonder. Later starts load from the cache what the
first one compiled, in so short a time that the log has no line.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

log = structlog.get_logger(__name__)

LINE_EVERY_S = 1.0


class StartProgress(Protocol):
    """Is told what a start does. Any thread may call it."""

    def stage(self, what: str) -> None:
        """Something begins whose length is not known."""

    def count(self, what: str, number: int, count: int) -> None:
        """The part ``number``, from 1 on, of ``count`` parts begins."""

    def step_aside(self) -> None:
        """Leave the terminal to somebody else, until the next call."""


class Unwatched:
    """A `StartProgress` that tells nobody."""

    def stage(self, what: str) -> None:
        """See `StartProgress`."""

    def count(self, what: str, number: int, count: int) -> None:
        """See `StartProgress`."""

    def step_aside(self) -> None:
        """See `StartProgress`."""


@contextmanager
def start_progress(
    stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[StartProgress]:
    """Yield what shows progress on ``stream``, by default stderr, until the start has ended."""
    stream = stream or sys.stderr
    console = _Console(file=stream)
    if not stream.isatty() or console.is_dumb_terminal:
        yield _Lines(clock)
        return
    bar = _Bar(console)
    try:
        yield bar
    finally:
        bar.step_aside()


class _Console(Console):
    """Never hides the cursor: a signal ends the process at once, and nobody would show it again."""

    def show_cursor(self, show: bool = True) -> bool:
        return False


class _Bar:
    """One line that says what is being done, how much of it is, and since when the start has been under way."""

    def __init__(self, console: Console) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20))
        self._bar = Progress(
            *columns, TextColumn("{task.fields[parts]}"), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._bar.add_task("", total=None, parts="")

    def stage(self, what: str) -> None:
        self._bar.update(self._task, description=what, completed=0, parts="")
        self._bar.tasks[0].total = None  # `update` takes None for "as it was"
        self._bar.start()

    def count(self, what: str, number: int, count: int) -> None:
        self._bar.update(self._task, description=what, completed=number - 1, total=count, parts=f"{number}/{count}")
        self._bar.start()

    def step_aside(self) -> None:
        self._bar.stop()


class _Lines(Unwatched):
    """At most one line for each `LINE_EVERY_S`, the first after that time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()

    def stage(self, what: str) -> None:
        self._say(what)

    def count(self, what: str, number: int, count: int) -> None:
        self._say(what, number=number, count=count)

    def _say(self, what: str, **numbers: int) -> None:
        if self._clock() - self._last >= LINE_EVERY_S:
            self._last = self._clock()
            log.info("starting", stage=what, **numbers)
