"""What may move at once. Plain numbers, on the host."""

from collections.abc import Iterable, Iterator

Move = tuple[int, int, int]  # source, destination, length, in blocks


def waves(moves: Iterable[Move]) -> Iterator[list[Move]]:
    """Cut moves that are meant one after the other into lists whose moves have nothing to do with each other.

    A wave is one launch. A move may overlap itself, but what it writes is read and written by no other of its wave.
    """
    wave: list[Move] = []
    for move in moves:
        if any(_meet(move, other) for other in wave):
            yield wave
            wave = []
        wave.append(move)
    if wave:
        yield wave


def _meet(one: Move, other: Move) -> bool:
    """Whether the order of the two matters."""
    (a, b, n), (c, d, m) = one, other
    return _overlap(b, n, c, m) or _overlap(b, n, d, m) or _overlap(a, n, d, m)


def _overlap(first: int, length: int, other: int, other_length: int) -> bool:
    return first < other + other_length and other < first + length
