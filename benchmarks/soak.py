"""`make soak`: half an hour of cancelling and vanishing clients, after which the server must be as before.

Three load tests at once, one a protocol, overload it in a closed loop; a fifth of the turns are cancelled, a twentieth
lose their client. Before that, more requests than the server remembers fill its bounded caches. Memory is judged in the
second half, because the allocator finds its level in the first. It counts as growing if the 99 % confidence interval of
its Theil-Sen slope (the median slope of all pairs of samples; Sen 1968) lies above 0 and the slope adds more than
`NOISE` to it over that half. Descriptors, threads and tasks are counted while the server is idle, before and after the
load; after it every KV block must be free. The exit code is 1 if any of these fails.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table
from scipy.stats import theilslopes

from benchmarks.record import Figures, commit, store
from benchmarks.server import Server, running_server
from clients.client import Client
from clients.report import Outcome, Run, read_run
from service.api.operations.history import MAX_REQUESTS

PROTOCOLS = ("sse", "websocket-json", "websocket-msgpack")
SESSION_TTL_S = 20
# KV memory for a few conversations only: the others are preempted, and idle ones lose their KV.
SERVER = ("--device-kv", "96MiB", "--max-num-seqs", "16", "--policy", "priority", "--reconnect-grace", "5")
LOAD = (
    *("--users", "6", "--conversations", "20000", "--turns", "uniform:1,3", "--think-time", "exponential:0.5"),
    *("--input-len", "lognormal:60,0.6,200", "--output-len", "lognormal:40,0.6,150"),
    *("--tenant", "a:priority=1,share=2", "--tenant", "b"),
    *("--cancel-rate", "0.2", "--disconnect-rate", "0.05", "--slow-reader-rate", "0.05"),
)
FILLING = (
    *("--users", "16", "--conversations", str(MAX_REQUESTS * 11 // 10), "--turns", "fixed:1"),
    *("--think-time", "fixed:0", "--input-len", "fixed:8", "--output-len", "fixed:1"),
)
SAMPLE_S = 1.0
CONFIDENCE = 0.99
NOISE = 0.02
SETTLE_S = 60.0


@dataclass(slots=True)
class Samples:
    """Resident memory in MiB at each time in seconds."""

    at: list[float] = field(default_factory=list)
    memory_mib: list[float] = field(default_factory=list)

    async def take(self, server: Server) -> None:
        """Take samples until cancelled."""
        while True:
            self.at.append(time.monotonic())
            self.memory_mib.append(server.process.memory_info().rss / 2**20)
            await asyncio.sleep(SAMPLE_S)

    def growth(self) -> tuple[float, float]:
        """Return the growth over the second half as a share of the memory, and the lower end of its interval."""
        skip = len(self.at) // 2
        at, memory = self.at[skip:], self.memory_mib[skip:]
        slope, _, low, _ = theilslopes(memory, at, alpha=CONFIDENCE)
        scale = (at[-1] - at[0]) / memory[0]
        return float(slope * scale), float(low * scale)


@dataclass(frozen=True, slots=True)
class Idle:
    """What the server holds without requests. ``tasks``: those of its event loop."""

    descriptors: int
    threads: int
    tasks: int
    blocks: int
    sessions: int


async def main() -> int:
    """Run the soak test, print and store its figures, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="minutes of load (default: %(default)s)")
    parser.add_argument("--model", metavar="PATH", help="unset: the default one; tests/data/tiny makes far more turns")
    flags = parser.parse_args()
    seconds, model = 60 * flags.minutes, () if flags.model is None else ("--model", flags.model)
    commit()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        async with running_server(*SERVER, *model, "--session-ttl", str(SESSION_TTL_S), log=log) as server:
            await _one_load(*FILLING, "--url", server.url, "--output", str(Path(folder, "filling.json")))
            await _load(server, Path(folder), 15.0)  # creates whatever is made at first use
            before = await _idle(server, log)
            samples = Samples()
            sampling = asyncio.create_task(samples.take(server))
            runs = await _load(server, Path(folder), seconds)
            sampling.cancel()
            after = await _idle(server, log)
    figures, faults = judge(runs, samples, before, after)
    _show(figures, faults)
    print(f"stored in {store('soak', figures)}")
    return 1 if faults else 0


def judge(runs: list[Run], samples: Samples, before: Idle, after: Idle) -> tuple[Figures, list[str]]:
    """Return the figures, and a sentence for every fault."""
    growth, least = samples.growth()
    outcomes = Counter(record.outcome for run in runs for record in run.records)
    errors = Counter(record.error for run in runs for record in run.records if record.outcome is Outcome.ERROR)
    faults = [f"{count} turns: {kind}" for kind, count in errors.items()]
    if least > 0 and growth > NOISE:
        faults.append(f"memory grew by {growth:.1%}, at least {least:.1%}")
    if after.blocks or after.sessions:
        faults.append(f"{after.blocks} blocks and {after.sessions} sessions are held without a request")
    for name in ("descriptors", "threads", "tasks"):
        if getattr(after, name) > getattr(before, name):
            faults.append(f"{getattr(before, name)} {name} before, {getattr(after, name)} after")
    counts = {
        f"{name}_{when}": getattr(idle, name)
        for when, idle in (("before", before), ("after", after))
        for name in Idle.__slots__
    }
    figures: Figures = {
        "seconds": round(samples.at[-1] - samples.at[0]),
        **{f"turns_{outcome}": outcomes[outcome] for outcome in Outcome},
        "preemptions_told": sum(record.preemptions or 0 for run in runs for record in run.records),
        "memory_mib_first": samples.memory_mib[0],
        "memory_mib_middle": samples.memory_mib[len(samples.at) // 2],
        "memory_mib_last": samples.memory_mib[-1],
        "memory_growth_percent": 100 * growth,
        "memory_growth_percent_at_least": 100 * least,
        **counts,
    }
    return figures, faults


async def _load(server: Server, folder: Path, seconds: float) -> list[Run]:
    """Run all load tests at once."""
    outputs = [folder / f"{protocol}.json" for protocol in PROTOCOLS]
    await asyncio.gather(
        *(
            _one_load(
                *LOAD, "--url", server.url, "--protocol", protocol, "--output", str(out), "--duration", str(seconds)
            )
            for protocol, out in zip(PROTOCOLS, outputs, strict=True)
        )
    )
    return [read_run(out) for out in outputs]


async def _one_load(*flags: str) -> None:
    command = [sys.executable, "-m", "service.cli", "load", *flags]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    if code := await process.wait():
        raise RuntimeError(f"{' '.join(command)} ended with {code}")


async def _idle(server: Server, log: Path) -> Idle:
    """Wait until the sessions have expired, or should have, and count what the server holds."""
    deadline = time.monotonic() + SESSION_TTL_S + SETTLE_S
    async with Client(server.url) as client:
        while True:
            core = (await client.state())["core"]
            blocks = sum(pool["used"] + pool["reserved"] for pool in core["pools"])
            sessions = len(core["idle_sessions"]) + len(core["requests"])
            if not (blocks or sessions) or time.monotonic() > deadline:
                break
            await asyncio.sleep(1)
    logged = _tasks_logged(log)
    server.process.send_signal(signal.SIGUSR1)  # it logs a line for each of its tasks
    await asyncio.sleep(2)
    tasks = _tasks_logged(log) - logged
    return Idle(server.process.num_fds(), server.process.num_threads(), tasks, blocks, sessions)


def _tasks_logged(log: Path) -> int:
    lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
    return sum(json.loads(line)["event"] == "task" for line in lines)


def _show(figures: Figures, faults: list[str]) -> None:
    console = Console()
    table = Table("figure", "value", title="soak")
    for figure, value in figures.items():
        table.add_row(figure, f"{value:,.3f}" if isinstance(value, float) else str(value))
    console.print(table)
    for fault in faults:
        console.print(fault, style="red", markup=False)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
