"""One run: a server of its own under `fastswitch load`, and the records of both."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from benchmarks.record import commit
from benchmarks.server import PLAIN, running_server
from clients.report import Run, read_run
from clients.trace import Trace, write_trace

RUN_NAME = "switching"  # priorities are drawn from it, so it is the same in all runs


@dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run. ``metrics``: how much each sample of /metrics grew during the load.

    ``others_cpu_share``: share of the machine's processor time that neither server nor client used.
    ``load_average``: the machine's, just before the run; it still contains the load of the last run.
    """

    flags: list[str]
    commit: str
    date: str
    load_average: float
    others_cpu_share: float
    wall_s: float
    metrics: dict[str, float]
    run: Run


class RunFolder:
    """Finished runs in a folder, two files each, so that an interrupted matrix can go on."""

    def __init__(self, folder: Path) -> None:
        """Make the folder if there is none. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def get(self, name: str, flags: Sequence[str]) -> RunResult | None:
        """Return the finished run of that name and those flags, if any. Raises `RunFileError` for a damaged one."""
        server, load = self._paths(name)
        stored = json.loads(server.read_text()) if server.exists() else None
        return None if stored is None or stored["flags"] != list(flags) else RunResult(**stored, run=read_run(load))

    async def make(self, name: str, flags: Sequence[str], trace: Trace) -> RunResult:
        """Make a run. The server's file is written last, and marks the run as finished."""
        server, load = self._paths(name)
        trace_path = self._folder / f"{name}.jsonl"
        write_trace(trace, trace_path)
        measured = await _measure(flags, trace_path, load)
        trace_path.unlink()
        server.write_text(json.dumps(measured, indent=2) + "\n")
        return RunResult(**measured, run=read_run(load))

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self._folder / f"{name}.server.json", self._folder / f"{name}.load.json"


async def _measure(flags: Sequence[str], trace: Path, load: Path) -> dict[str, object]:
    load_average, date = os.getloadavg()[0], datetime.now(UTC).isoformat(timespec="seconds")
    began, others = time.monotonic(), _others_cpu_s()
    async with running_server(*PLAIN, *flags) as server:
        before = await server.metrics()
        await _load("--url", server.url, "--trace", str(trace), "--run-name", RUN_NAME, "--output", str(load))
        after = await server.metrics()
    wall_s = time.monotonic() - began
    return {
        "flags": list(flags),
        "commit": commit(),
        "date": date,
        "load_average": load_average,
        "others_cpu_share": (_others_cpu_s() - others) / (wall_s * (os.cpu_count() or 1)),
        "wall_s": wall_s,
        "metrics": _growth(before, after),
    }


def _others_cpu_s() -> float:
    """Return the machine's processor seconds, without this process and its children that have ended."""
    machine, own = psutil.cpu_times(), os.times()
    ours = own.user + own.system + own.children_user + own.children_system
    return sum(machine) - machine.idle - machine.iowait - machine.guest - machine.guest_nice - ours


async def _load(*flags: str) -> None:
    command = [sys.executable, "-m", "service.cli", "load", *flags]
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
    if code := await process.wait():
        raise RuntimeError(f"{' '.join(command)} ended with {code}")


def _growth(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the growth of counters and sums; buckets are left out, and gauges mean nothing here."""
    wanted = [key for key in after if key.split("{")[0].endswith(("_total", "_sum", "_count"))]
    return {key: after[key] - before.get(key, 0.0) for key in wanted}
