"""The ops under compute-sanitizer, in a process of its own: what it finds no comparison of results would."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu.checks.check import Check, NotHereError, require
from benchmarks.gpu.rig import Rig

TOOLS = ("memcheck", "racecheck")
PLACES = ("/usr/local/cuda/bin",)
FOUND = 9  # exit code
PATIENCE_S = 120  # instrumenting cuBLAS takes a while
GROUPS = ("layers", "attention", "draws", "moves")  # all that launches kernels of ours
TOLD_LINES = 3


def sanitizer_checks(rig: Rig) -> Iterator[Check]:
    """At tiny sizes: an instrumented kernel takes a hundred times as long."""
    for tool in TOOLS:
        yield Check(tool, partial(_run, rig, tool))


def _run(rig: Rig, tool: str) -> str:
    program = shutil.which("compute-sanitizer", path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))
    if rig.simulated:
        raise NotHereError("a simulated device has nothing to sanitize")
    if program is None:
        raise NotHereError("compute-sanitizer is not on the PATH")
    number = rig.runtime.info.device.rpartition(":")[2]
    suite = (sys.executable, "-m", "benchmarks.gpu", "test", "--tiny", "--device", number, "--only", *GROUPS)
    command = [program, "--tool", tool, "--error-exitcode", str(FOUND), *suite]
    root = Path(__file__).parents[3]
    try:
        ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise NotHereError(f"not done after {PATIENCE_S} s: {' '.join(command)}") from error
    lines = [line for line in ended.stdout.splitlines() if line.startswith("=")]
    require(
        ended.returncode == 0, f"exit code {ended.returncode}: {' '.join(lines[:TOLD_LINES]) or ended.stderr[-500:]}"
    )
    return lines[-1].strip("= ") if lines else ""
