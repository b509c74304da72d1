"""Writes files that are never half written."""

import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Replace the file ``path`` at once: a reader finds the old file or the new one, even after a power loss.

    Raises `OSError`.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
