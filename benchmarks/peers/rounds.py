"""One server for one round: it is started alone, warmed up, measured and stopped."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.peers.load import MEASURES, Figures, Load, warm_up
from benchmarks.peers.server import PeerServer, cpu_s_of, running


@dataclass(frozen=True, slots=True)
class Played:
    """What a server did in a round, and what it said of itself. ``opening``: its answer to the first question."""

    figures: Figures
    version: str
    opening: str


def order(names: Sequence[str], rounds: int) -> list[tuple[int, str]]:
    """Return which server runs when, as (round, name): each round in the reverse order of the one before.

    So a machine that gets slower or busier favours none.
    """
    return [(number, name) for number in range(rounds) for name in (names if number % 2 == 0 else reversed(names))]


async def play(command: str, model: Path, only: Sequence[str], load: Load) -> Played:
    """Run the measures in their order. Raises what `running` and a client raise.

    ``rss_mb`` is the most that the server's processes had at the end of a measure. ``other_cores`` is how many cores
    others than server and client kept busy meanwhile: servers whose threads wait for each other suffer most from them.
    """
    async with running(command, model) as server:
        await warm_up(server.client, load)
        figures: Figures = {"start_s": server.start_s}
        resident = [server.rss_mb()]
        began, others = time.perf_counter(), _cpu_s_of_others(server)
        for measure in only:
            figures |= await MEASURES[measure](server.client, load)
            resident.append(server.rss_mb())
        figures["rss_mb"] = max(resident)
        figures["other_cores"] = (_cpu_s_of_others(server) - others) / (time.perf_counter() - began)
        return Played(figures, await server.client.version(), server.opening)


def _cpu_s_of_others(server: PeerServer) -> float:
    all_of_them = psutil.cpu_times()
    busy = all_of_them.user + all_of_them.nice + all_of_them.system
    return float(busy - server.cpu_s() - cpu_s_of(psutil.Process()))
