"""Run the checks of ops under compute-sanitizer, which finds faults that no comparison of results would."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.gpu.checks.check import Check, NotHereError, require
from benchmarks.gpu.under_test import GPUUnderTest

TOOLS = ("memcheck", "racecheck")
SEARCHED = ("/usr/local/cuda/bin",)
FOUND = 9  # exit code when the tool finds an error
COMPILING_S = 300  # at most, where no kernel has been compiled yet: some hundred take a second or so each
PATIENCE_S = 150  # with compiled kernels; instrumenting cuBLAS takes a while
GROUPS = ("layers", "attention", "draws", "moves")  # the checks that launch our own kernels
BANNER_LINES, SHOWN_LINES = 1, 3


def sanitizer_checks(gpu: GPUUnderTest) -> Iterator[Check]:
    """Yield a check a tool, at tiny sizes: an instrumented kernel takes a hundred times as long.

    The first one uses no tool, so that the kernels are compiled when the tools run.
    """
    yield Check("no tool", partial(_run_plain, gpu))
    for tool in TOOLS:
        yield Check(tool, partial(_run, gpu, tool))


def _run_plain(gpu: GPUUnderTest) -> str:
    if gpu.simulated:
        raise NotHereError("the process would look for a real GPU")
    code, output = _output(_suite(gpu), COMPILING_S)
    require(code == 0, f"exit code {code}: {output[-500:]}")
    return ""


def _suite(gpu: GPUUnderTest) -> list[str]:
    number = gpu.runtime.info.device.rpartition(":")[2]
    return [sys.executable, "-m", "benchmarks.gpu", "test", "--tiny", "--device", number, "--only", *GROUPS]


def _run(gpu: GPUUnderTest, tool: str) -> str:
    program = shutil.which("compute-sanitizer", path=os.pathsep.join((os.environ.get("PATH", ""), *SEARCHED)))
    if gpu.simulated:
        raise NotHereError("a simulated device has nothing to sanitize")
    if program is None:
        raise NotHereError("compute-sanitizer is not on the PATH")
    # API errors are not reported: probing what a driver can do makes some, and they are not the kernels'.
    command = [program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", str(FOUND), *_suite(gpu)]
    code, output = _output(command, PATIENCE_S)
    lines = [line for line in output.splitlines() if line.startswith("=")]
    require(code == 0, f"exit code {code}: {' '.join(lines[BANNER_LINES:][:SHOWN_LINES]) or output[-500:]}")
    return lines[-1].strip("= ") if lines else ""


def _output(command: list[str], patience_s: float) -> tuple[int, str]:
    """Return exit code and output. On a timeout the tool's children die too, or they would disturb the next tool."""
    root, pipe = Path(__file__).parents[3], subprocess.PIPE
    with subprocess.Popen(
        command, cwd=root, stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"not done after {patience_s:.0f} s: {' '.join(command)}") from error
    return process.returncode, output
