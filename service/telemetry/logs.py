"""Logs on stderr, for the service's own log calls and those of libraries alike: JSON, one object a line, or text.

What users write never gets into a log. The service's calls pass ids, counts and codes. The texts of exceptions are left
out, because they may quote the input, as a validator's does: a traceback is logged as its type and its frames.
"""

import logging
import os
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure_logs(level: str, stream: TextIO | None = None, log_format: str = "auto") -> None:
    """Send all logs of the process, ``level`` and above, to ``stream``, by default to what stderr is at that time.

    ``log_format``: ``json``, ``text`` for people, or ``auto``, which is text on a terminal.
    """
    terminal = (stream or sys.stderr).isatty()
    as_text = log_format == "text" or (log_format == "auto" and terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if as_text else "iso", utc=not as_text),
        traceback_without_text,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[first_line, *shared],
            use_get_message=False,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(_text(terminal) if as_text else [structlog.processors.JSONRenderer()]),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class _Handler(logging.Handler):
    """Looks up stderr for each line: the bar of a start puts itself in its place, and shows lines above itself."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=self._stream or sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _text(terminal: bool) -> list[Processor]:
    """Return what makes lines for people, in colours on a terminal unless ``NO_COLOR`` is set."""
    colours = terminal and not os.environ.get("NO_COLOR")
    return [_without_logger, structlog.dev.ConsoleRenderer(colors=colours, pad_level=False, sort_keys=False)]


def _without_logger(logger: Any, method: str, event: EventDict) -> EventDict:
    event.pop("logger", None)
    return event


def first_line(logger: Any, method: str, event: EventDict) -> EventDict:
    """Keep a library message's template alone: its arguments, and what asyncio appends below, may quote input."""
    event["event"] = event["event"].partition("\n")[0]
    return event


def traceback_without_text(logger: Any, method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the exception's type and ``file:line function`` of each frame, innermost last."""
    found = _exc_info(event.pop("exc_info", None))
    if found is not None:
        kind, _, frames = found
        event["exception"] = f"{kind.__module__}.{kind.__qualname__}"
        event["frames"] = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(frames)]
    return event


def _exc_info(value: Any) -> ExcInfo | None:
    """Return the triple for what loggers accept as ``exc_info``: True, an exception or a triple."""
    if isinstance(value, BaseException):
        return type(value), value, value.__traceback__
    if isinstance(value, tuple) and value[0] is not None:
        return value
    current = sys.exc_info()
    return current if value and current[0] is not None else None
