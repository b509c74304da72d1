"""`make peers`: ours and other servers with the same weights under the same load, one at a time, in alternating rounds.

A peer runs if its command is given; docs/peers.md says how to get llama-server and vLLM. An interrupted run stores the
rounds that it has. Run it on a machine that does nothing else.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.peers.commands import named, serve
from benchmarks.peers.load import MEASURES, Load
from benchmarks.peers.outcome import FIGURES, OURS, Figure, outcome
from benchmarks.peers.rounds import Played, order, play
from benchmarks.record import RESULTS, commit, store
from service.execution.models.loading import default_model_path

QUIET_CORES = 0.1  # that others may keep busy


def main() -> int:
    """Run the rounds, store and show them, and return 1 if a conversation failed."""
    flags, load = parsed(sys.argv[1:]), Load()
    commit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped then, too
    made: dict[str, list[Played]] = {}
    try:
        asyncio.run(make(flags, load, made))
    finally:
        if made:
            result = described(flags, load, made)
            show(result)
            print(f"stored in {store('peers', result, folder=flags.results)}")
    return 1 if any(each.figures.get("failed") for played in made.values() for each in played) else 0


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the flags; ends the process if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    filled = "{port}, {model} and {python} are filled in; repeatable"
    parser.add_argument("--peer", action="append", default=[], type=named, metavar="NAME=COMMAND", help=filled)
    parser.add_argument("--ours", default="", metavar="FLAGS", help="more flags of `fastswitch serve`, as one word")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    names = f"{', '.join(MEASURES)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), metavar="MEASURE", help=names)
    parser.add_argument(
        "--model", type=Path, metavar="PATH", help="what {model} is and ours serves; unset: the bundled one"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    flags = parser.parse_args(words)
    if len(dict(flags.peer)) < len(flags.peer):
        parser.error(f"{len(flags.peer)} peers have {len(dict(flags.peer))} different names")
    return flags


def commands(flags: argparse.Namespace) -> dict[str, str]:
    """Return the command of each server by name, ours first."""
    return {OURS: serve(flags.model, flags.ours), **dict(flags.peer)}


async def make(flags: argparse.Namespace, load: Load, made: dict[str, list[Played]]) -> None:
    """Run the rounds; ``made`` gets each server's as they end."""
    servers = commands(flags)
    for number, name in order(list(servers), flags.rounds):
        played = await play(servers[name], _model(flags), flags.only, load)
        made.setdefault(name, []).append(played)
        told = ", ".join(f"{figure} {value:,.1f}" for figure, value in played.figures.items())
        print(f"round {number + 1} of {flags.rounds}, {name}: {told}", flush=True)


def described(flags: argparse.Namespace, load: Load, made: Mapping[str, Sequence[Played]]) -> dict[str, Any]:
    """Return the result to store: the outcome, each server's command and version, and the load."""
    result = outcome({name: [each.figures for each in played] for name, played in made.items()})
    servers = {
        name: {
            "command": commands(flags)[name],
            "version": commit() if name == OURS else played[-1].version,
            "opening": played[-1].opening,
            "figures": result["servers"][name],
        }
        for name, played in made.items()
    }
    return {"model": _model(flags).name, "load": asdict(load), **result, "servers": servers}


def _model(flags: argparse.Namespace) -> Path:
    return flags.model or default_model_path()


def show(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print a table: medians and spread of each server, and the ratio to the best peer beside what is wanted."""
    console = console or Console(width=120)
    servers = result["servers"]
    table = Table("", *servers, "ours / best peer", "wanted", title="peers: median (spread)")
    for figure in FIGURES:
        values = [server["figures"].get(figure.name) for server in servers.values()]
        if any(values):
            ratio = result["ratios"].get(figure.name)
            table.add_row(f"{figure.name}, {figure.unit}", *map(_cell, values), _ratio(ratio), _wanted(figure))
    console.print(table)
    for name in result["left_out"]:
        console.print(f"{name} was left out: no command was given (docs/peers.md)")
    for name, server in servers.items():
        others = max(server["figures"]["other_cores"]["rounds"])
        if others > QUIET_CORES:
            console.print(f"{name}: others kept {others:.1f} cores busy; repeat on an idle machine", style="red")


def _cell(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return ""
    median = values["median"]
    return f"{median:,.0f} ({values['spread']:.0%})" if median >= 1000 else f"{median:.3g} ({values['spread']:.0%})"


def _ratio(found: Mapping[str, Any] | None) -> Text:
    if found is None:
        return Text()
    style = {True: "green", False: "red", None: ""}[found["holds"]]
    return Text(f"{found['ratio']:.2f} {found['best_peer']}", style=style)


def _wanted(figure: Figure) -> str:
    return "" if figure.wanted is None else f"at {'least' if figure.more_is_better else 'most'} {figure.wanted:g}"


if __name__ == "__main__":
    sys.exit(main())
