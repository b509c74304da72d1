"""Finds which moves of blocks inside a pool may be done at once. Plain numbers, on the host."""

from collections.abc import Iterable, Iterator

RunMove = tuple[int, int, int]  # source, destination, length, in blocks


def waves(moves: Iterable[RunMove]) -> Iterator[list[RunMove]]:
    """Split moves that are meant one after the other into waves, whose moves are independent of each other.

    A wave is one launch. A move may overlap itself, but no other move of its wave reads or writes what it writes.
    """
    wave: list[RunMove] = []
    for move in moves:
        if any(_meet(move, other) for other in wave):
            yield wave
            wave = []
        wave.append(move)
    if wave:
        yield wave


def _meet(one: RunMove, other: RunMove) -> bool:
    """Return whether the order of the two matters."""
    (a, b, n), (c, d, m) = one, other
    return _overlap(b, n, c, m) or _overlap(b, n, d, m) or _overlap(a, n, d, m)


def _overlap(first: int, length: int, other: int, other_length: int) -> bool:
    return first < other + other_length and other < first + length
