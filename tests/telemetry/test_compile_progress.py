"""What people see while the first start compiles."""

import io
import json
import re

import pytest

from service.telemetry.compile_progress import compile_progress
from service.telemetry.logs import configure_logs


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    configure_logs("info", stream)
    return stream


def lines(log: io.StringIO) -> list[tuple[str, str, int, int]]:
    found = [json.loads(line) for line in log.getvalue().splitlines()]
    return [(each["event"], each["kernel"], each["number"], each["count"]) for each in found]


def test_the_log_says_what_is_compiled_and_how_much_is_left(log: io.StringIO) -> None:
    clock = Clock()
    with compile_progress(io.StringIO(), clock) as report:
        for number, (name, seconds) in enumerate((("norm", 3.0), ("linear", 0.5), ("join", 0.5), ("draws", 5.0)), 1):
            report(name, number, 4)
            clock.now += seconds
    assert lines(log) == [("compiling", "linear", 2, 4), ("compiling", "draws", 4, 4)]


def test_a_start_that_finds_all_compiled_says_nothing(log: io.StringIO) -> None:
    clock = Clock()
    with compile_progress(io.StringIO(), clock) as report:
        for number in range(1, 50):
            report("norm", number, 49)
            clock.now += 0.02
    assert lines(log) == []


def test_a_terminal_has_a_bar_that_goes_away(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with compile_progress(terminal) as report:
        report("norm", 1, 4)
        report("linear", 2, 4)
    shown = terminal.getvalue()
    assert re.search(r"kernels: linear.*1/4", shown)
    assert shown.rstrip().endswith("\x1b[2K")  # the line is cleared
    assert lines(log) == []
