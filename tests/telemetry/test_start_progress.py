"""What people see while a server starts."""

import io
import json
import re

import pytest

from service.telemetry.logs import configure_logs
from service.telemetry.start_progress import start_progress


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
    return [(each["event"], each["stage"], each["number"], each["count"]) for each in found]


def test_the_log_says_what_is_compiled_and_how_much_is_left(log: io.StringIO) -> None:
    clock = Clock()
    with start_progress(io.StringIO(), clock) as progress:
        for number, (name, seconds) in enumerate((("norm", 3.0), ("linear", 0.5), ("join", 0.5), ("draws", 5.0)), 1):
            progress.count(name, number, 4)
            clock.now += seconds
    assert lines(log) == [("starting", "linear", 2, 4), ("starting", "draws", 4, 4)]


def test_a_start_that_finds_all_compiled_says_nothing(log: io.StringIO) -> None:
    clock = Clock()
    with start_progress(io.StringIO(), clock) as progress:
        for number in range(1, 50):
            progress.count("norm", number, 49)
            clock.now += 0.02
    assert lines(log) == []


def test_a_terminal_has_a_bar_that_goes_away(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with start_progress(terminal) as progress:
        progress.stage("reading")
        progress.count("norm", 1, 4)
        progress.count("linear", 2, 4)
    shown = terminal.getvalue()
    assert re.search(r"linear.*2/4", shown)
    assert shown.rstrip().endswith("\x1b[2K")  # the line is cleared
    assert "\x1b[?25l" not in shown  # the cursor is never hidden
    assert lines(log) == []


def test_the_bar_steps_aside_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    with start_progress(terminal) as progress:
        progress.stage("before")
        progress.step_aside()
        print("a line of somebody else", file=terminal)
        progress.stage("after")
    before, _, after = terminal.getvalue().partition("a line of somebody else")
    assert "before" in before
    assert "after" in after


def test_a_terminal_that_cannot_move_its_cursor_has_lines(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    terminal, clock = Terminal(), Clock()
    with start_progress(terminal, clock) as progress:
        clock.now += 2
        progress.count("linear", 2, 4)
    assert terminal.getvalue() == ""
    assert lines(log) == [("starting", "linear", 2, 4)]
