"""`make fairness`: the cases side by side under each policy, on the running service.

Each run is a server of its own, so that an interrupted matrix keeps what it has: `--only` makes what is missing, and
the stored runs of other scenes and policies stay. Run it on a machine that does nothing else.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fairness.cases import CASES, POLICIES, SCENES, SECONDS, Scene
from benchmarks.fairness.outcome import outcome
from benchmarks.fairness.page import write_page
from benchmarks.fairness.run import run_scene
from benchmarks.record import RESULTS, commit, store

Run = dict[str, Any]


def main() -> int:
    """Make the runs, store and show them, and return 1 if something that must hold does not, or a request failed."""
    flags = _parser().parse_args()
    commit()
    made: list[Run] = []
    try:
        asyncio.run(_make(flags, made))
    finally:
        if made:
            result = _store(flags, made)
            _show(result)
    failed = any(tenant["errors"] for run in made for tenant in run["tenants"].values())
    return 1 if failed or not all(each["holds"] for each in result["criteria"]) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    names = f"{', '.join(CASES)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), metavar="CASE", help=names)
    parser.add_argument("--policies", nargs="+", default=POLICIES, help=f"default: {' '.join(POLICIES)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="a run; not the default: new traces are drawn")
    parser.add_argument("--model", metavar="PATH", help="unset: the default one")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    return parser


def jobs(cases: Sequence[str], policies: Sequence[str]) -> Iterator[tuple[Scene, str]]:
    """Yield what to run. The policies of a scene run back to back; which goes first rotates, so that none is favoured
    by a machine that gets slower or busier.
    """
    for number, scene in enumerate(each for each in SCENES if each.case in cases):
        here = [policy for policy in policies if policy in scene.policies]
        turn = number % max(len(here), 1)
        yield from ((scene, policy) for policy in (*here[turn:], *here[:turn]))


async def _make(flags: argparse.Namespace, made: list[Run]) -> None:
    todo = list(jobs(flags.only, flags.policies))
    if not todo:
        raise SystemExit(f"no scene of {', '.join(flags.only)} runs under {', '.join(flags.policies)}")
    for number, (scene, policy) in enumerate(todo, 1):
        made.append(await run_scene(scene, policy, flags.seconds, flags.model))
        print(f"{number}/{len(todo)} {scene.name}, {policy}: {made[-1]['tokens_per_s']:.0f} tokens/s", flush=True)


def _store(flags: argparse.Namespace, made: Sequence[Run]) -> dict[str, Any]:
    result = outcome(list(merged(_stored(flags), made)))
    path = store("fairness", result, folder=flags.results)
    if flags.results == RESULTS:
        write_page(json.loads(path.read_text()))
    return result


def _stored(flags: argparse.Namespace) -> list[Run]:
    """Return the stored runs of the same length and model."""
    path = flags.results / "fairness.json"
    runs = json.loads(path.read_text())["figures"]["runs"] if path.exists() else []
    return [run for run in runs if (run["seconds"], run["model"]) == (flags.seconds, flags.model)]


def merged(stored: Sequence[Run], made: Sequence[Run]) -> Iterator[Run]:
    """Yield the newest run of each scene and policy, in the order of the scenes."""
    newest = {(run["scene"], run["policy"]): run for run in (*stored, *made)}
    order = {scene.name: number for number, scene in enumerate(SCENES)}
    known = [run for run in newest.values() if run["scene"] in order]
    yield from sorted(known, key=lambda run: (order[run["scene"]], run["policy"]))


def _show(result: dict[str, Any]) -> None:
    table = Table("scene", "policy", "tenant", "TTFT P50, s", "P99, s", "service/s", "answered", title="fairness")
    for run in result["runs"]:
        for name, tenant in run["tenants"].items():
            times = [f"{tenant[key]:.2f}" for key in ("ttft_p50_s", "ttft_p99_s")]
            answered = f"{tenant['answered']} of {tenant['requests']}"
            table.add_row(run["scene"], run["policy"], name, *times, f"{tenant['service_per_s']:.0f}", answered)
    console = Console(width=120)
    console.print(table)
    for run in result["runs"]:
        for name, tenant in run["tenants"].items():
            if tenant["errors"]:
                console.print(f"{run['scene']}, {run['policy']}, {name}: {', '.join(tenant['errors'])}", style="red")
    for each in result["criteria"]:
        sign = "at most" if each["at_most"] else "at least"
        line = f"{each['name']} {each['value']:.3g}, {sign} {each['limit']:g} ({each['worst']})"
        console.print(line, style=None if each["holds"] else "red", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
