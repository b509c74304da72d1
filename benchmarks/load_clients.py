"""Check that `fastswitch load` reports true latencies: it and NVIDIA's `aiperf` load a stub whose delays are known.

Each client has a stub in a process of its own and the same load: an open loop, Poisson, one turn a request. Percentiles
must be within `OF_SCRIPT` of the script's and within `OF_PEER` of what `aiperf` reports; the exit code is 1 if one is
not. TBT is what aiperf calls inter chunk latency, every gap by itself; its inter token latency is each answer's mean
gap. TTFT and E2E count from when a turn was due here, and from when it was sent there: equal unless a client is late.

    python -m venv peer && peer/bin/pip install aiperf==0.13.0
    python -m benchmarks.load_clients --aiperf peer/bin/aiperf
"""

import argparse
import asyncio
import json
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.record import Figures, commit, store
from benchmarks.stub_server import PIECES, exact
from clients.report import read_run
from clients.reporting.distribution import Distribution
from clients.reporting.statistics import summarise

OF_SCRIPT, OF_PEER = 0.02, 0.05
STUB_LATE_MS = 5.0  # at P95: above it the machine is too busy for the script to say what clients saw
NAMES = ("ttft", "tbt", "e2e")
PERCENTILES = ("P50", "P90", "P95", "P99")
PROMPT_TOKENS = 20
TOKENIZER = Path(__file__).parent.parent / "tests" / "data" / "tiny"  # aiperf makes its prompts with it
AIPERF_NAMES = {"ttft": "time_to_first_token", "tbt": "inter_chunk_latency", "e2e": "request_latency"}

Milliseconds = dict[tuple[str, str], float]  # by name and percentile


@dataclass(frozen=True, slots=True)
class Load:
    """The load that each client makes."""

    requests: int
    rate: float
    seed: int


@dataclass(slots=True)
class ClientReport:
    """What a client reported. ``late_ms``: how late its stub was, by percentile; ``about``: more about the client."""

    latencies: Milliseconds
    about: Figures = field(default_factory=dict)
    late_ms: dict[str, float] = field(default_factory=dict)


RunClient = Callable[[Load, str, Path], Awaitable[ClientReport]]  # the load, the stub's address, a folder to write to


async def main() -> int:
    """Run the clients, print and store the comparison, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_clients", description=__doc__)
    parser.add_argument("--aiperf", metavar="PATH", help="path of its program (default: only ours runs)")
    parser.add_argument("--requests", type=int, default=600, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the script (default: %(default)s)")
    flags = parser.parse_args()
    load = Load(flags.requests, flags.rate, flags.seed)
    commit()
    reports = {"script": ClientReport(_in_ms(exact(load.seed, load.requests))), "ours": await _run(_ours, load)}
    if flags.aiperf is not None:
        reports["aiperf"] = await _run(partial(_aiperf, flags.aiperf), load)
    faults = _faults(reports)
    _show(reports, faults)
    print(f"stored in {store('load_clients', _figures(load, reports))}")
    return 1 if faults else 0


def _in_ms(found: Mapping[str, Distribution]) -> Milliseconds:
    return {(name, p.name): 1e3 * p.value for name in NAMES for p in found[name].percentiles if p.name in PERCENTILES}


async def _run(client: RunClient, load: Load) -> ClientReport:
    """Run a client against a new stub."""
    late_ms: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        async with _stub(load.seed, late_ms) as url:
            report = await client(load, url, Path(folder))
    report.late_ms = late_ms
    return report


@asynccontextmanager
async def _stub(seed: int, late_ms: dict[str, float]) -> AsyncIterator[str]:
    """Yield the address of a stub; when it has ended, ``late_ms`` holds how late it was."""
    command = (sys.executable, "-m", "benchmarks.stub_server", "--seed", str(seed))
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE)
    assert process.stdout is not None
    try:
        while not (line := (await process.stdout.readline()).decode()).startswith("http"):
            assert line, "the stub did not start"
        yield line.strip()
    finally:
        process.terminate()
        rest, _ = await process.communicate()
    late_ms |= json.loads(rest.decode().removeprefix("late"))


async def _ours(load: Load, url: str, folder: Path) -> ClientReport:
    output = folder / "run.json"
    lengths = ("--turns", "1", "--input-len", str(PROMPT_TOKENS), "--output-len", str(PIECES))
    amount = ("--conversations", str(load.requests), "--request-rate", str(load.rate), "--seed", str(load.seed))
    command = (sys.executable, "-m", "service.cli", "load", "--url", url, *lengths, *amount, "--output", str(output))
    await _end_of(*command)
    run = read_run(output)
    figures = summarise(run)
    late = {f"sent_late_{p.name.lower()}_ms": 1e3 * p.value for p in figures.late_s.percentiles}
    about = {"errors": sum(figures.errors.values()), "cores": run.client_cpu_s / run.duration_s, **late}
    return ClientReport(_in_ms({name: getattr(figures.latencies, name) for name in NAMES}), about)


async def _aiperf(program: str, load: Load, url: str, folder: Path) -> ClientReport:
    lengths = ("--isl", str(PROMPT_TOKENS), "--osl", str(PIECES), "--tokenizer", str(TOKENIZER))
    amount = ("--request-count", str(load.requests), "--request-rate", str(load.rate))
    where = ("--url", url, "--model", "stub", "--endpoint-type", "chat", "--streaming", "--artifact-dir", str(folder))
    apart = ("--use-server-token-count", "--no-gpu-telemetry", "--no-server-metrics", "--ui", "none")
    one = ("--arrival-pattern", "poisson", "--workers-max", "1")
    await _end_of(program, "profile", *where, *lengths, *amount, *one, *apart)
    export = json.loads((folder / "profile_export_aiperf.json").read_text())
    assert export["request_count"]["avg"] == load.requests
    found = {(name, p): export[AIPERF_NAMES[name]][p.lower()] for name in NAMES for p in PERCENTILES}
    means = export["inter_token_latency"]
    return ClientReport(found, {"version": export["aiperf_version"], "mean_gap_of_an_answer_p99_ms": means["p99"]})


async def _end_of(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL)
    if code := await process.wait():
        raise RuntimeError(f"{' '.join(command)} ended with {code}")


def _faults(reports: dict[str, ClientReport]) -> list[str]:
    """Return a sentence for everything that is further off than allowed."""
    allowed = [("ours", "script", OF_SCRIPT), ("ours", "aiperf", OF_PEER)]
    busy = [
        f"{who}: its stub was late by {report.late_ms['P95']:.1f} ms at P95; repeat on an idle machine"
        for who, report in reports.items()
        if report.late_ms and report.late_ms["P95"] > STUB_LATE_MS
    ]
    return busy + [
        f"{name} {percentile}: {off:+.1%} from {other}"
        for one, other, most in allowed
        if other in reports
        for (name, percentile), off in _off(reports[one], reports[other]).items()
        if abs(off) > most
    ]


def _off(one: ClientReport, other: ClientReport) -> Milliseconds:
    """Return by what share one is above the other."""
    return {key: one.latencies[key] / value - 1 for key, value in other.latencies.items()}


def _figures(load: Load, reports: dict[str, ClientReport]) -> Figures:
    figures: Figures = {"requests": load.requests, "requests_per_s": load.rate, "pieces_an_answer": PIECES}
    for who, report in reports.items():
        figures |= {f"{who}_{name}_{p.lower()}_ms": ms for (name, p), ms in report.latencies.items()}
        figures |= {f"{who}_{name}": value for name, value in report.about.items()}
        figures |= {f"{who}_stub_late_{p.lower()}_ms": ms for p, ms in report.late_ms.items()}
    for other in set(reports) - {"ours"}:
        off = _off(reports["ours"], reports[other]).values()
        figures[f"ours_from_{other}_percent_at_most"] = 100 * max(abs(share) for share in off)
    return figures


def _show(reports: dict[str, ClientReport], faults: list[str]) -> None:
    table = Table("ms", *reports, *(f"ours / {who}" for who in reports if who != "ours"), title="load clients")
    for key in reports["script"].latencies:
        values = [report.latencies[key] for report in reports.values()]
        ratios = [reports["ours"].latencies[key] / r.latencies[key] for who, r in reports.items() if who != "ours"]
        table.add_row(" ".join(key), *(f"{value:,.1f}" for value in values), *(f"{ratio:.4f}" for ratio in ratios))
    console = Console()
    console.print(table)
    for who, report in reports.items():
        console.print(who, report.about, "stub late, ms", report.late_ms, highlight=False)
    for fault in faults:
        console.print(fault, style="red", markup=False)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
