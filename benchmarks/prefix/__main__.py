"""`make prefix`: what is reused, seen from outside, and prompt tokens computed beside other servers' prefix caches.

Parts that are not made keep their stored figures, and so do peers whose command is not given.
"""

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.peers.commands import named, serve
from benchmarks.peers.load import Load, warm_up
from benchmarks.peers.outcome import OURS
from benchmarks.peers.server import running
from benchmarks.prefix import cost, crowd, everyday, multi_turn, trace
from benchmarks.prefix.outcome import NONE, outcome
from benchmarks.record import RESULTS, commit, hardware, store
from service.execution.models.loading import default_model_path

PARTS = ("everyday", "crowd", "cost", "multi-turn")
BEFORE = "before"  # the everyday part before prefixes were shared; only kept
WITHOUT = "--no-enable-prefix-caching"
HOST_SHARE = 4  # of all bytes of KV, one in so many is the host's


def main() -> int:
    """Make the parts, store and show them, and return 1 if something that must hold does not."""
    flags = parsed(sys.argv[1:])
    commit()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped then, too
    parts = stored(flags.results)
    try:
        asyncio.run(make(flags, parts))
    finally:
        result = outcome(parts)
        show(result)
        print(f"stored in {store('prefix', result, folder=flags.results)}")
    return 0 if all(each["holds"] for each in result["criteria"]) else 1


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the flags; ends the process if they are wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prefix", description=__doc__)
    filled = "of the multi-turn part; {port}, {model}, {python} and {kv_bytes} are filled in; repeatable"
    parser.add_argument("--peer", action="append", default=[], type=named, metavar="NAME=COMMAND", help=filled)
    parser.add_argument("--peers-only", action="store_true", help="run no server of ours in the multi-turn part")
    parser.add_argument("--ours", default="", metavar="FLAGS", help="more flags of `fastswitch serve`, as one word")
    parts = f"{', '.join(PARTS)} (default: all)"
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=parts)
    parser.add_argument("--model", type=Path, metavar="PATH", help="unset: the bundled one")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="default: %(default)s")
    return parser.parse_args(words)


def stored(folder: Path) -> dict[str, Any]:
    """Return the parts of the stored result."""
    path = folder / "prefix.json"
    figures = json.loads(path.read_text())["figures"] if path.exists() else {}
    return {name: figures[name] for name in (BEFORE, *PARTS) if name in figures}


async def make(flags: argparse.Namespace, parts: dict[str, Any]) -> None:
    """Make the wanted parts; ``parts`` gets each as it ends."""
    model = flags.model or default_model_path()
    if "everyday" in flags.only:
        parts["everyday"] = {**about(), **await everyday.measure(model, flags.ours, everyday.Sizes())}
    if "crowd" in flags.only:
        parts["crowd"] = {**about(), **await crowd.measure(model, flags.ours, crowd.Sizes())}
    if "cost" in flags.only:
        parts["cost"] = {**about(), **cost.measure(cost.Sizes())}
    if "multi-turn" in flags.only:
        await compare(flags, model, trace.Sizes(), parts)


async def compare(flags: argparse.Namespace, model: Path, sizes: trace.Sizes, parts: dict[str, Any]) -> None:
    """Play the trace at each server. Stored figures of others stay if they are of the same trace and memory."""
    conversations = trace.draw(sizes)
    kv_bytes = trace.kv_bytes(sizes, conversations, model)
    load = {"trace": trace.digest(conversations), "kv_bytes": kv_bytes, "sizes": asdict(sizes)}
    found = parts.get("multi-turn", {})
    if {name: found.get(name) for name in load} != json.loads(json.dumps(load)):
        parts["multi-turn"] = found = {**load, "servers": {}}
    for name, command in commands(flags, kv_bytes).items():
        async with running(command, model) as server:
            await warm_up(server.client, Load())
            version = await server.client.version() or commit()
            played = await multi_turn.play(server.client, conversations, sizes.in_flight)
        found["servers"][name] = {**about(), "command": command, "version": version, **asdict(played)}
        print(f"{name}: {played}", flush=True)


def commands(flags: argparse.Namespace, kv_bytes: int) -> dict[str, str]:
    """Return the command of each server by name; all have the same bytes of KV, ours on device and host together."""
    host = kv_bytes // HOST_SHARE
    ours = serve(flags.model, f"--device-kv {kv_bytes - host} --host-kv {host}", flags.ours)
    own = {} if flags.peers_only else {OURS: ours, NONE: f"{ours} {WITHOUT}"}
    return {**own, **{name: command.replace("{kv_bytes}", str(kv_bytes)) for name, command in flags.peer}}


def about() -> dict[str, str]:
    """Return when, of what commit, and on what machine a part is measured."""
    return {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), "hardware": hardware()}


def show(result: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the trace's counts by server, and whether each criterion holds."""
    console = console or Console(width=120)
    table = Table("", "prompt tokens", "computed", "late turns", "failed", title="multi-turn")
    for name, server in result.get("multi-turn", {"servers": {}})["servers"].items():
        counts = [server[key] for key in ("prompt_tokens", "computed_tokens", "late_turns", "failed")]
        table.add_row(name, *(f"{count:,}" for count in counts))
    console.print(table)
    for each in result["criteria"]:
        sign = "at most" if each["at_most"] else "at least"
        line = f"{each['name']} {each['value']:.3g}, {sign} {each['limit']:g} ({each['worst']})"
        console.print(line, style=None if each["holds"] else "red", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
