"""Names of models on a hub: ``org/name``, ``org/name:file.gguf``, either with ``@revision`` behind it."""

import re
from dataclasses import dataclass
from pathlib import Path

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_NAME = re.compile(rf"({_PART}/{_PART})(?::([^:@\s]+))?(?:@([^:@\s]+))?")


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository, a file in it or how its name ends (``Q8_0``), and a branch, tag or commit; None: not said."""

    repository: str
    file: str | None = None
    revision: str | None = None

    def __str__(self) -> str:
        file = "" if self.file is None else f":{self.file}"
        return self.repository + file + ("" if self.revision is None else f"@{self.revision}")


def hub_name(model: str) -> HubName | None:
    """Return the name that ``model`` is, or None if it is a path: whatever exists, and what names no repository."""
    name = _NAME.fullmatch(model)
    if name is None or Path(model).exists() or name[1].endswith((".gguf", ".safetensors")):
        return None
    return HubName(name[1], name[2], name[3])
