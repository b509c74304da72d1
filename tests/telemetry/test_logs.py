"""Logs are JSON lines, or text for people; neither holds texts of exceptions."""

import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from service.telemetry.logs import configure_logs


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", io.StringIO, True),
        ("auto", Terminal, False),
        ("json", Terminal, True),
        ("text", io.StringIO, False),
    ],
)
def test_a_terminal_gets_text_unless_the_settings_differ(written, monkeypatch, log_format, stream, is_json):
    monkeypatch.setenv("NO_COLOR", "1")
    lines = stream()
    configure_logs("info", lines, log_format)
    structlog.get_logger("ours").info("happened", tokens=3)
    (line,) = lines.getvalue().splitlines()
    if is_json:
        assert json.loads(line)["tokens"] == 3
    else:
        assert re.fullmatch(r"\d\d:\d\d:\d\d \[info\] happened +tokens=3", line)


def test_text_holds_no_text_of_exceptions_either(written):
    lines = io.StringIO()
    configure_logs("info", lines, "text")
    try:
        raise ValueError("secret")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    assert "builtins.ValueError" in lines.getvalue()
    assert "secret" not in lines.getvalue()


def test_lines_go_to_what_stderr_is_when_they_are_written(written, monkeypatch):
    configure_logs("info", log_format="json")
    put_in_its_place = io.StringIO()
    monkeypatch.setattr("sys.stderr", put_in_its_place)
    structlog.get_logger("ours").info("happened")
    assert only(put_in_its_place)["event"] == "happened"


def only(written: io.StringIO) -> dict:
    (line,) = written.getvalue().splitlines()
    return json.loads(line)


def test_our_own_calls_are_objects_with_the_request_id(written):
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("ours").info("happened", tokens=3)
    entry = only(written)
    assert (entry["event"], entry["tokens"], entry["request_id"]) == ("happened", 3, "r-1")
    assert (entry["level"], entry["logger"]) == ("info", "ours")
    assert "timestamp" in entry


def test_what_libraries_say_has_the_same_form_without_their_arguments(written):
    logging.getLogger("theirs").warning("bad request %r", "secret")
    entry = only(written)
    assert (entry["event"], entry["logger"], entry["level"]) == ("bad request %r", "theirs", "warning")


def test_lines_below_the_first_are_dropped(written):
    logging.getLogger("asyncio").error("Task exception was never retrieved\nfuture: secret")
    assert only(written)["event"] == "Task exception was never retrieved"


@pytest.mark.parametrize("call", [
    lambda: structlog.get_logger("ours").exception("failed"),
    lambda: logging.getLogger("theirs").exception("failed"),
])  # fmt: skip
def test_an_exception_is_its_type_and_frames(written, call):
    try:
        raise ValueError("secret")
    except ValueError:
        call()
    entry = only(written)
    assert entry["exception"] == "builtins.ValueError"
    assert entry["frames"][-1].endswith("test_an_exception_is_its_type_and_frames")
    assert "secret" not in written.getvalue()


def test_an_exception_may_be_handed_over(written):
    structlog.get_logger("ours").error("failed", exc_info=KeyError("secret"))
    entry = only(written)
    assert (entry["exception"], entry["frames"]) == ("builtins.KeyError", [])


def test_less_severe_lines_are_left_out(written):
    structlog.get_logger("ours").debug("quiet")
    logging.getLogger("theirs").debug("quiet")
    assert written.getvalue() == ""
