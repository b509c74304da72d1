"""The keys that are valid now. A changed file takes effect at the next request; nothing polls.

A file that cannot be read or understood changes nothing: the last good keys stay valid, and the error is logged once
for each such content.
"""

import time
from pathlib import Path

import structlog

from service.api.access.key_ring import parse_inline, parse_ring
from service.api.access.tenants import ANONYMOUS, Tenant
from service.errors import ConfigError

log = structlog.get_logger(__name__)

# A file can change twice within one tick of its time stamp, so a younger stamp proves nothing yet.
SETTLED_NS = 1_000_000_000

LOAD_ERRORS = (ConfigError, OSError, UnicodeDecodeError)

_Stamp = tuple[int, int, int]  # modified in ns, inode, size


class Keys:
    """The keys of a file, and those of a setting beside it. Belongs to the event loop.

    Raises `ConfigError` if either is wrong at the start.
    """

    def __init__(self, path: Path | None = None, inline: str | None = None) -> None:
        self._path = path
        self._inline = () if inline is None else parse_inline(inline)
        self._ring = parse_ring("", self._inline)
        self._stamp: _Stamp | None = None
        self._text: str | None = None  # as last read, good or bad
        self._logged = ""  # the last problem
        if path is not None:
            try:
                self._load(path)
            except LOAD_ERRORS as error:
                raise ConfigError(f"--keys {path}: {_reason(error)}") from error

    @property
    def required(self) -> bool:
        """Whether requests need a key. True for an empty file, which lets no request in."""
        return self._path is not None or bool(self._inline)

    @property
    def tenants(self) -> frozenset[str]:
        """The names of all tenants that have a key; where none is required, that of all callers."""
        names = frozenset(tenant.name for tenant in self._ring.tenants.values())
        return names if self.required else frozenset({ANONYMOUS.name})

    def find(self, key: str) -> Tenant | None:
        """Return the tenant of a key by the file's current content, or None if the key is unknown."""
        if self._path is not None:
            self._refresh(self._path)
        return self._ring.find(key)

    def _refresh(self, path: Path) -> None:
        try:
            changed = self._load(path)
        except LOAD_ERRORS as error:
            if (problem := _reason(error)) != self._logged:
                self._logged = problem
                log.error("keys_not_reloaded", problem=problem)
            return
        self._logged = ""  # it is over, even if the old content came back
        if changed:
            log.info("keys_loaded", keys=len(self._ring.tenants))

    def _load(self, path: Path) -> bool:
        """Read the file if it has changed; return whether its keys have. Raises one of `LOAD_ERRORS`."""
        status = path.stat()
        stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
        if stamp == self._stamp:
            return False
        text = path.read_text(encoding="utf-8")
        self._stamp = stamp if time.time_ns() - status.st_mtime_ns > SETTLED_NS else None
        if text == self._text:
            return False
        self._text = text
        self._ring = parse_ring(text, self._inline)
        return True


def _reason(error: Exception) -> str:
    match error:
        case OSError():
            return error.strerror or type(error).__name__
        case UnicodeDecodeError():
            return "is not UTF-8"
    return str(error)
