"""A JSON object in a file whose values are checked when they are read: model directories come from anywhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from service.errors import ModelLoadError

T = TypeVar("T")


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file. Raises `ModelLoadError`."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ModelLoadError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ModelLoadError(f"{path}: not UTF-8: {error}") from error


class JsonObject:
    """Typed access to a JSON object; null counts as absent. Raises `ModelLoadError` with the path and the key."""

    def __init__(self, path: Path, content: object) -> None:
        if not isinstance(content, dict):
            raise ModelLoadError(f"{path}: not a JSON object")
        self.path = path
        self._content: dict[str, Any] = content

    @classmethod
    def read(cls, path: Path) -> "JsonObject":
        """Read the object in the file ``path``."""
        try:
            return cls(path, json.loads(read_text(path)))
        except (ValueError, RecursionError) as error:
            raise ModelLoadError(f"{path}: not valid JSON: {error}") from error

    @classmethod
    def read_optional(cls, path: Path) -> "JsonObject":
        """Read the object like `read`; it is empty if there is no such file."""
        return cls.read(path) if path.is_file() else cls(path, {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def get(self, key: str) -> Any:
        """Return the value of ``key``, of any type, or None."""
        return self._content.get(key)

    def integer(self, key: str, default: int | None = None) -> int:
        """Return an integer."""
        return self._take(key, (int,), default)

    def number(self, key: str, default: float | None = None) -> float:
        """Return an integer or a float, as float."""
        return float(self._take(key, (int, float), default))

    def string(self, key: str, default: str | None = None) -> str:
        """Return a string."""
        return self._take(key, (str,), default)

    def object(self, key: str) -> "JsonObject":
        """Return a nested object, empty if absent."""
        return JsonObject(self.path, self._take(key, (dict,), {}))

    def _take(self, key: str, kinds: tuple[type[T], ...], default: T | None) -> T:
        value = self._content.get(key)
        if value is None:
            value = default
        if value is None:
            raise ModelLoadError(f"{self.path}: {key} is missing")
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ModelLoadError(f"{self.path}: {key} is not {' or '.join(kind.__name__ for kind in kinds)}")
        return value
