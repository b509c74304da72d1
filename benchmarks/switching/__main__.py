"""`make switch-bench`: the presets side by side on the running service.

Runs that are in `--folder` already are not made again, and the result and its page are written after every run: an
interrupted matrix goes on where it was. The whole one of the paper's frequencies is `--schedules random:100 random:50
random:25 random:10 markov:100 markov:50 markov:25 markov:10 never`. Run it on a machine that does nothing else.
"""

import argparse
import asyncio
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks.record import commit, store
from benchmarks.switching.matrix import CAP, VARIANTS, Job, Schedule, jobs
from benchmarks.switching.outcome import outcome
from benchmarks.switching.page import render
from benchmarks.switching.session import Result, Shelf
from benchmarks.switching.workload import Memory, at_rate, draw_trace, memory_for
from clients.reporting.measures import measured
from clients.reporting.slo import Slo, parse_slo
from clients.reporting.statistics import measured_window, throughput
from clients.trace import Trace
from service.core.mechanisms import DEFAULT_PRESET
from service.execution.loading import LoadedModel, load_model

OVERLOAD = 1.2
LINKS = {"memory": None, "pcie4": "pcie4"}
PAGE = Path(__file__).parents[2] / "docs" / "switching.md"
FCFS = ("--preset", DEFAULT_PRESET, "--policy", "fcfs")


def main() -> None:
    flags = _parser().parse_args()
    commit()
    asyncio.run(Bench(flags).run())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.switching",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    schedules = [Schedule.parse(text) for text in ("random:10", "random:50", "markov:10", "markov:50", "never")]
    parser.add_argument("--schedules", nargs="+", type=Schedule.parse, default=schedules, help="POLICY:STEPS, or never")
    parser.add_argument("--links", nargs="+", choices=LINKS, default=list(LINKS), help="between the two pools")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of conversations and priorities")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS, help=f"presets, and {CAP!r}")
    parser.add_argument("--conversations", type=int, default=32, help="of a run")
    parser.add_argument("--slo", type=parse_slo, default=Slo(ttft_s=5.0, tbt_s=1.0), help="what goodput counts")
    parser.add_argument("--model", help="unset: the default one")
    parser.add_argument("--folder", type=Path, default=Path("build/switching"), help="for the runs")
    return parser


class Bench:
    """One call of the program."""

    def __init__(self, flags: argparse.Namespace) -> None:
        self._flags = flags
        self._console = Console(highlight=False, width=160)
        self._shelf = Shelf(flags.folder)
        self._model_flags = [] if flags.model is None else ["--model", flags.model]
        self._results: dict[Job, Result] = {}

    async def run(self) -> None:
        """All runs, or those of them that are missing."""
        flags = self._flags
        todo = list(jobs(flags.schedules, [LINKS[name] for name in flags.links], flags.seeds, flags.variants))
        settings = self._settings(load_model(flags.model))
        for number, job in enumerate(todo, 1):
            trace, memory = await settings(job.cell.seed)
            server = [*self._model_flags, *memory.flags, *job.server_flags(memory.conversations)]
            self._results[job] = await self._result(job.name, server, trace)
            self._console.print(f"{number}/{len(todo)} {job.name}: {self._results[job].wall_s:.0f} s")
            self._write(memory.block_bytes)

    def _settings(self, model: LoadedModel) -> Callable:
        """By seed, once: the trace at its rate, and the memory."""
        known: dict[int, tuple[Trace, Memory]] = {}

        async def of(seed: int) -> tuple[Trace, Memory]:
            if seed not in known:
                trace = draw_trace(seed, self._flags.conversations)
                memory = memory_for(trace, model)
                known[seed] = at_rate(trace, OVERLOAD * await self._capacity(trace, memory)), memory
            return known[seed]

        return of

    async def _capacity(self, trace: Trace, memory: Memory) -> float:
        """Turns a second that the server does of these conversations when all of them begin at once."""
        server = [*self._model_flags, *memory.flags, *FCFS]
        turns = measured((await self._result(f"capacity-seed{trace.seed}", server, trace)).run)
        start, end = measured_window(turns)
        return throughput(turns, end - start).requests_per_s

    async def _result(self, name: str, server: list[str], trace: Trace) -> Result:
        return self._shelf.get(name, server) or await self._shelf.make(name, server, trace)

    def _write(self, block_bytes: int) -> None:
        found = {**outcome(self._results, self._flags.slo, block_bytes), "conversations": self._flags.conversations}
        path = store("switch", found, program="benchmarks.switching")
        PAGE.write_text(render(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
