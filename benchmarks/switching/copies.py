"""Blocks a copy, over core alone: ``python -m benchmarks.switching.copies``.

It plays chats on the simulated data plane, in virtual time, with device memory for a quarter of them. A ticket is what
core decides to copy at once; a piece is a contiguous copy. A piece cannot be longer than its ticket, so the blocks of a
ticket bound what any allocator can reach. Chats of the lengths of `workload` are short; ``--scale`` makes longer ones.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from math import ceil

from rich.console import Console
from rich.table import Table

from allocator import BLOCK_TOKENS, DEVICE, HOST, Direction, Ticket
from clients.trace import Trace, TraceConversation
from clients.workload.generate import generate
from clients.workload.settings import WorkloadSettings
from service.cli import wiring
from service.config import ServeSettings
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.simulation.copier import Link, SimulatedCopier
from service.simulation.driver import Simulation
from service.simulation.pools import HashPools
from service.simulation.runner import SimulatedRunner, StepCost

PRESETS = ("groups", "groups+reuse+async", "full")
LINK = Link(block_s=0.0001, piece_s=0.000_01)
STEP = StepCost(step_s=0.02, token_s=0.0001)
QUARTER = 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switching.copies", description=__doc__)
    parser.add_argument("--conversations", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--scale", type=int, default=1, help="multiplies all lengths (default: %(default)s)")
    parser.add_argument("--every", type=int, default=25, help="steps between priority updates (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    flags = parser.parse_args()
    table = Table("preset", "", "tickets", "blocks", "a ticket", "a piece", "a run: device", "host", "turns/s")
    for preset in PRESETS:
        sim, tickets = play(draw_trace(flags.seed, flags.conversations, flags.scale), preset, flags.every)
        for direction in Direction:
            figures = row([ticket for ticket in tickets if ticket.direction is direction])
            table.add_row(preset, direction.value, *figures, f"{len(sim.ended) / sim.now:.2f}")
    Console(width=120).print(table)


def row(tickets: Sequence[Ticket]) -> Iterator[str]:
    """Yield the numbers of tickets and blocks, then blocks a ticket, a piece, and an extent of either pool."""
    blocks = sum(ticket.num_blocks for ticket in tickets)
    pieces = sum(ticket.num_runs for ticket in tickets)
    extents = Counter(extent.pool for ticket in tickets for extent in (*ticket.source, *ticket.destination))
    yield from (f"{len(tickets):,}", f"{blocks:,}")
    for divisor in (len(tickets), pieces, extents[DEVICE], extents[HOST]):
        yield f"{blocks / max(1, divisor):.2f}"


def draw_trace(seed: int, conversations: int, scale: int) -> Trace:
    """Return chats of two to four turns; at ``scale`` 1 they are those of `workload`."""
    return generate(
        WorkloadSettings(
            seed=seed,
            conversations=conversations,
            turns="uniform:2,4",
            input_len=f"lognormal:{60 * scale},0.7,{240 * scale}",
            output_len=f"lognormal:{40 * scale},0.6,{160 * scale}",
            think_time="exponential:0.5",
        )
    )


def play(trace: Trace, preset: str, every: int) -> tuple[Simulation, list[Ticket]]:
    """Play all conversations from their start; the next turn comes with the end of the last. Return all copies too."""
    sizes = [ceil(sum(t.user_tokens + t.max_tokens for t in each.turns) / BLOCK_TOKENS) for each in trace.conversations]
    device = max(sum(sizes) // QUARTER, *sizes)
    settings = wiring.core_settings(ServeSettings(preset=preset), device, sum(sizes))
    core = Core(settings, wiring.policy(ServeSettings(policy="random", priority_update_every=every)))
    pools = HashPools()
    sim = Simulation(core, SimulatedRunner(1000, STEP, pools), SimulatedCopier(pools, LINK))
    chats = [_turns(each, sim, number) for number, each in enumerate(trace.conversations)]
    waiting = {next(chat): chat for chat in chats}
    tickets: list[Ticket] = []
    while waiting:
        if plan := sim.step():
            tickets += plan.copies
        for ended in waiting.keys() & sim.ended.keys():
            chat = waiting.pop(ended)
            if following := next(chat, None):
                waiting[following] = chat
    return sim, tickets


def _turns(conversation: TraceConversation, sim: Simulation, number: int) -> Iterator[str]:
    """Submit a turn each time it is asked for, and yield its id."""
    history: tuple[int, ...] = ()
    words = count(number * 7)
    for index, turn in enumerate(conversation.turns):
        prompt = (*history, *(next(words) % 1000 for _ in range(turn.user_tokens)))
        request_id = f"{conversation.id}-{index}"
        sampling = SamplingParams(seed=number)
        sim.submit(Submit(request_id, prompt, turn.max_tokens, sampling, frozenset(), ("t", conversation.id)))
        yield request_id
        history = (*prompt, *sim.answers[request_id])


if __name__ == "__main__":
    main()
