"""`make demo`: half a minute of a light tenant beside one that floods, under `fcfs`, then under `vtc`, to watch.

The chat page shows both; it asks for a key, which is printed here. At the end a table says what each of them got.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.fairness.cases import CASES, FLOODS, SERVER, Scene
from benchmarks.fairness.client import Player
from benchmarks.fairness.keys import OPERATOR, write_keys
from benchmarks.fairness.measures import ttft_quantile
from benchmarks.fairness.traces import draw, kept
from benchmarks.server import running_server
from clients.report import Outcome, TurnRecord
from clients.reporting.statistics import group_by_tenant

POLICIES = ("fcfs", "vtc")
TIMES = 8  # the flood is so many times its tenant's share
SECONDS = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness.demo", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="of both policies together (default: %(default)s)"
    )
    parser.add_argument("--policies", nargs="+", default=POLICIES, help=f"default: {' '.join(POLICIES)}")
    parser.add_argument("--port", type=int, default=8000, help="of the page (default: %(default)s)")
    parser.add_argument("--model", metavar="PATH", help="unset: the default one")
    asyncio.run(show(parser.parse_args()))


async def show(flags: argparse.Namespace) -> None:
    """Play the flood under each policy at one address, and print the table."""
    console, case = Console(highlight=False), CASES["flood"]
    seconds = flags.seconds / len(flags.policies)
    trace = draw(case, seconds)
    part = kept(Scene("demo", case.name, every={"flood": FLOODS[-1] // TIMES}), trace)
    model = () if flags.model is None else ("--model", flags.model)
    table = Table("policy", "tenant", "TTFT P50, s", "worst, s", "answered", "tokens/s")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "keys.toml")
        keys = write_keys(path, trace.weights)
        address = f"http://127.0.0.1:{flags.port}"
        console.print(f"{address}  the page asks for this key: {keys[OPERATOR]}", soft_wrap=True)
        for policy in flags.policies:
            server_flags = ("--keys", str(path), *SERVER, "--policy", policy, *model)
            async with running_server(*server_flags, port=flags.port) as server:
                console.print(f"{policy}: {seconds:.0f} seconds; `flood` sends {TIMES} times its share")
                records = await Player(server.url, keys).play(part, trace, seconds)
            for tenant, turns in group_by_tenant(records).items():
                table.add_row(policy, tenant, *_shown(turns, seconds))
    console.print(table)


def _shown(turns: list[TurnRecord], seconds: float) -> list[str]:
    times = [f"{ttft_quantile(turns, quantile):.2f}" for quantile in (0.5, 1.0)]
    answered = sum(turn.outcome is Outcome.OK for turn in turns)
    tokens = sum(turn.completion_tokens or 0 for turn in turns)
    return [*times, f"{answered} of {len(turns)}", f"{tokens / seconds:.0f}"]


if __name__ == "__main__":
    main()
