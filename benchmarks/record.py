"""The form of every stored result: name, date, commit, hardware, command, figures."""

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

Figures = dict[str, float | int | str]


def hardware() -> str:
    """Return processor, cores, memory and Python of this machine."""
    import psutil  # noqa: PLC0415 - a machine with a GPU may lack both, and needs neither
    from cpuinfo import get_cpu_info  # noqa: PLC0415

    cpu = get_cpu_info().get("brand_raw", platform.processor())
    memory = psutil.virtual_memory().total / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


@cache
def commit() -> str:
    """Return the commit; ``+`` marks uncommitted changes. Call it before the first result is stored, which is one."""
    root = Path(__file__).parent.parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty=+"], cwd=root, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return "unknown"
    return described.stdout.strip() or "unknown"


def store(
    name: str,
    figures: Mapping[str, Any],
    *,
    folder: Path = RESULTS,
    measured_on: str | None = None,
    measured_commit: str | None = None,
) -> Path:
    """Write ``<name>.json``. Hardware and commit are this machine's and this tree's unless they are passed."""
    path = folder / f"{name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": measured_commit or commit(),
        "hardware": measured_on or hardware(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "figures": figures,
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path
