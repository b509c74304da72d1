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

import psutil
from cpuinfo import get_cpu_info

RESULTS = Path(__file__).parent / "results"

Figures = dict[str, float | int | str]


def hardware() -> str:
    """Processor, cores, memory and Python of this machine."""
    cpu = get_cpu_info().get("brand_raw", platform.processor())
    memory = psutil.virtual_memory().total / 2**30
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, Python {platform.python_version()}"


@cache
def commit() -> str:
    """The commit measured; ``+`` marks uncommitted changes. Ask before the first result is stored: it is a change."""
    root = Path(__file__).parent.parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=root, capture_output=True, text=True, check=False
    )
    return described.stdout.strip() or "unknown"


def store(name: str, figures: Mapping[str, Any]) -> Path:
    """Write ``results/<name>.json``."""
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(exist_ok=True)
    result = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": hardware(),
        "command": shlex.join(["python", *sys.orig_argv[1:]]),
        "figures": figures,
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path
