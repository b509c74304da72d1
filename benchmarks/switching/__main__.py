"""`make switch-bench`: the presets side by side on the running service.

Runs that `--folder` already holds are not made again, so an interrupted matrix goes on where it was. The result and its
page are written at the end, also when the call is interrupted. Run it on a machine that does nothing else.
"""

import argparse
import asyncio
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.record import commit, store
from benchmarks.switching.matrix import NEVER, VARIANTS, Job, Schedule, jobs
from benchmarks.switching.outcome import outcome
from benchmarks.switching.page import write_pages
from benchmarks.switching.session import RunFolder, RunResult
from benchmarks.switching.workload import PoolSizes, at_rate, capacity_of, draw_trace, memory_for, served_block_bytes
from clients.reporting.slo import parse_slo
from clients.trace import Trace
from service.config import DEFAULT_PRESET
from service.execution.models.loading import load_model

OVERLOAD = 1.2
SCHEDULES = (*(f"{policy}:{every}" for policy in ("random", "markov") for every in (100, 50, 25, 10)), NEVER)
SLO = "ttft=5,tbt=1"
NAMES = f"{', '.join(VARIANTS)} (default: all)"
LINKS = {"memory": None, "pcie4": "pcie4"}
FCFS = ("--preset", DEFAULT_PRESET, "--policy", "fcfs")


def main() -> None:
    flags = _parser().parse_args()
    commit()
    asyncio.run(Bench(flags).run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switching", description=__doc__)
    parser.add_argument(
        "--schedules",
        nargs="+",
        type=Schedule.parse,
        default=[Schedule.parse(text) for text in SCHEDULES],
        metavar="POLICY:STEPS",
        help=f"who gets priority and how often that changes, or never (default: {' '.join(SCHEDULES)})",
    )
    parser.add_argument("--links", nargs="+", choices=LINKS, default=list(LINKS), help="default: both")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, metavar="NAME", help=NAMES)
    parser.add_argument("--conversations", type=int, default=16, help="in a run (default: %(default)s)")
    parser.add_argument("--slo", type=parse_slo, default=parse_slo(SLO), help=f"for the goodput (default: {SLO})")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after this time; 0: only report")
    parser.add_argument("--model", metavar="PATH", help="unset: the default one")
    parser.add_argument("--folder", type=Path, default=Path("build/switching"), help="default: %(default)s")
    return parser


class Bench:
    """One call of the program."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self._flags = flags
        self._console = Console(highlight=False, width=160)
        self._folder = RunFolder(flags.folder)
        self._model = load_model(flags.model)
        self._model_flags = [] if flags.model is None else ["--model", flags.model]
        self._drawn: dict[int, tuple[Trace, PoolSizes]] = {}  # by seed
        self._results: dict[Job, RunResult] = {}

    async def run(self) -> None:
        """Read the finished runs, then make missing ones until the time is up."""
        flags, began = self._flags, time.monotonic()
        todo = list(jobs(flags.schedules, [LINKS[name] for name in flags.links], flags.seeds, flags.variants))
        for job in todo:
            if found := self._folder.get(job.name, self._server_flags(job)):
                self._results[job] = found
        try:
            for job in [job for job in todo if job not in self._results]:
                if time.monotonic() - began < 60 * flags.minutes:
                    self._results[job] = result = await self._make(job)
                    line = f"{job.name}: {result.wall_s:.0f} s, load average {result.load_average:.1f} before"
                    self._console.print(f"{len(self._results)}/{len(todo)} {line}")
        finally:
            self._write()

    def _draw(self, seed: int) -> tuple[Trace, PoolSizes]:
        if seed not in self._drawn:
            trace = draw_trace(seed, self._flags.conversations)
            self._drawn[seed] = trace, memory_for(trace, self._model)
        return self._drawn[seed]

    def _server_flags(self, job: Job) -> list[str]:
        _, memory = self._draw(job.cell.seed)
        return [*self._model_flags, *memory.flags, *job.server_flags(memory.conversations)]

    async def _make(self, job: Job) -> RunResult:
        seed = job.cell.seed
        trace, _ = self._draw(seed)
        capacity = self._capacity(seed) or await self._folder.make(*self._capacity_run(seed), trace)
        at = at_rate(trace, OVERLOAD * capacity_of(capacity.run))
        return await self._folder.make(job.name, self._server_flags(job), at)

    def _capacity_run(self, seed: int) -> tuple[str, list[str]]:
        """Return name and flags of the run that measures the capacity: all conversations of a seed begin at once."""
        _, memory = self._draw(seed)
        return f"capacity-seed{seed}", [*self._model_flags, *memory.flags, *FCFS]

    def _capacity(self, seed: int) -> RunResult | None:
        return self._folder.get(*self._capacity_run(seed))

    def _write(self) -> None:
        if not self._results:
            return
        found = outcome(self._results, self._flags.slo, served_block_bytes(self._model))
        document = {"conversations": self._flags.conversations, "capacity": list(self._capacities()), **found}
        path = store("switch", document)
        write_pages(json.loads(path.read_text()))

    def _capacities(self) -> Iterator[dict[str, float]]:
        for seed in sorted({job.cell.seed for job in self._results}):
            if found := self._capacity(seed):
                turns_per_s = capacity_of(found.run)
                yield {"seed": seed, "turns_per_s": turns_per_s, "others_cpu_share": found.others_cpu_share}


if __name__ == "__main__":
    main()
