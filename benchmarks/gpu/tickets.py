"""Copies as core would ask for them, without a core."""

from collections.abc import Sequence

from allocator import DEVICE, HOST, Direction, Extent, Ticket

Run = tuple[int, int, int]  # device block, host block, length


def ticket(direction: Direction, runs: Sequence[Run], number: int = 0) -> Ticket:
    """A copy of runs of blocks."""
    device = tuple(Extent(DEVICE, start, length) for start, _, length in runs)
    host = tuple(Extent(HOST, start, length) for _, start, length in runs)
    source, destination = (device, host) if direction is Direction.OUT else (host, device)
    return Ticket(number, number, direction, 0, source, destination, 16, 0)
