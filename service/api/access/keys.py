"""The keys that open the door now. A changed file takes effect at the next request; nothing polls.

Belongs to the event loop. A file that cannot be read or understood changes nothing: the last good keys stay, and the
error is logged once for each such content.
"""

import time
from pathlib import Path

import structlog

from service.api.access.key_ring import parse_given, parse_ring
from service.api.access.tenants import Tenant
from service.errors import ConfigError

log = structlog.get_logger(__name__)

# A file can change twice within one tick of its time stamp, so a stamp this young proves nothing yet.
SETTLED_NS = 1_000_000_000

TROUBLES = (ConfigError, OSError, UnicodeDecodeError)

_Stamp = tuple[int, int, int]  # modified in ns, inode, size


class Keys:
    """Keys of a file and keys given beside it. Raises `ConfigError` if either is wrong at the start."""

    def __init__(self, path: Path | None = None, given: str | None = None) -> None:
        self._path = path
        self._given = () if given is None else parse_given(given)
        self._ring = parse_ring("", self._given)
        self._stamp: _Stamp | None = None
        self._text: str | None = None  # as last read, good or bad
        self._trouble = ""  # as last logged
        if path is not None:
            try:
                self._load(path)
            except TROUBLES as error:
                raise ConfigError(f"--keys {path}: {_reason(error)}") from error

    @property
    def required(self) -> bool:
        """Whether anybody needs a key. True for an empty file: nobody gets in."""
        return self._path is not None or bool(self._given)

    def find(self, key: str) -> Tenant | None:
        """Whose key it is, by the file's content of now."""
        if self._path is not None:
            self._refresh(self._path)
        return self._ring.find(key)

    def _refresh(self, path: Path) -> None:
        try:
            changed = self._load(path)
        except TROUBLES as error:
            if (trouble := _reason(error)) != self._trouble:
                self._trouble = trouble
                log.error("keys_not_reloaded", problem=trouble)
            return
        self._trouble = ""  # over, even if what came back is what was there before
        if changed:
            log.info("keys_loaded", keys=len(self._ring.tenants))

    def _load(self, path: Path) -> bool:
        """Take the file in if it has changed. Raises one of `TROUBLES`."""
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return False
        text = path.read_text(encoding="utf-8")
        self._stamp = stamp if time.time_ns() - status.st_mtime_ns > SETTLED_NS else None
        if text == self._text:
            return False
        self._text = text
        self._ring = parse_ring(text, self._given)
        return True


def _reason(error: Exception) -> str:
    match error:
        case OSError():
            return error.strerror or type(error).__name__
        case UnicodeDecodeError():
            return "is not UTF-8"
    return str(error)
