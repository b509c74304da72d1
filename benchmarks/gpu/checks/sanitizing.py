"""The ops under compute-sanitizer, in a process of its own: what it finds no comparison of results would."""

import os
import shutil
import signal
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
COMPILING_S = 300  # at most, where no kernel has been compiled yet: some hundred, a second or so each
PATIENCE_S = 150  # with kernels that are compiled; instrumenting cuBLAS takes a while
GROUPS = ("layers", "attention", "draws", "moves")  # all that launches kernels of ours
BANNER_LINES, TOLD_LINES = 1, 3


def sanitizer_checks(rig: Rig) -> Iterator[Check]:
    """At tiny sizes: an instrumented kernel takes a hundred times as long. First without a tool, which compiles."""
    yield Check("no tool", partial(_run_plain, rig))
    for tool in TOOLS:
        yield Check(tool, partial(_run, rig, tool))


def _run_plain(rig: Rig) -> str:
    if rig.simulated:
        raise NotHereError("the process would look for a GPU")
    code, told = _output(_suite(rig), COMPILING_S)
    require(code == 0, f"exit code {code}: {told[-500:]}")
    return ""


def _suite(rig: Rig) -> list[str]:
    number = rig.runtime.info.device.rpartition(":")[2]
    return [sys.executable, "-m", "benchmarks.gpu", "test", "--tiny", "--device", number, "--only", *GROUPS]


def _run(rig: Rig, tool: str) -> str:
    program = shutil.which("compute-sanitizer", path=os.pathsep.join((os.environ.get("PATH", ""), *PLACES)))
    if rig.simulated:
        raise NotHereError("a simulated device has nothing to sanitize")
    if program is None:
        raise NotHereError("compute-sanitizer is not on the PATH")
    # Errors of the driver's own are none of the kernels': finding out what a driver can do makes some.
    command = [program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", str(FOUND), *_suite(rig)]
    code, told = _output(command, PATIENCE_S)
    lines = [line for line in told.splitlines() if line.startswith("=")]
    require(code == 0, f"exit code {code}: {' '.join(lines[BANNER_LINES:][:TOLD_LINES]) or told[-500:]}")
    return lines[-1].strip("= ") if lines else ""


def _output(command: list[str], patience_s: float) -> tuple[int, str]:
    """Exit code and output. The tool's children die with it, or they would disturb the next."""
    root, pipe = Path(__file__).parents[3], subprocess.PIPE
    with subprocess.Popen(
        command, cwd=root, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            told, _ = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"not done after {patience_s:.0f} s: {' '.join(command)}") from error
    return process.returncode, told
