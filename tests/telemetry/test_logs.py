"""Logs are JSON lines that hold no texts of exceptions."""

import io
import json
import logging
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
