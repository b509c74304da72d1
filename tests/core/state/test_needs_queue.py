"""The queue by needs yields what a walk through all that wait would admit, also where they share prefixes."""

from hypothesis import given
from hypothesis import strategies as st

from service.core.state.owners import BLOCK_BYTES, Prefix
from service.core.state.requests import Needs
from service.core.state.waiting import NeedsQueue, least

Need = tuple[Prefix | None, int]

items = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.integers(0, 4), st.booleans()), max_size=30)


def prefix(number: int, blocks: int, below: Prefix | None = None) -> Prefix:
    return Prefix(number, ("t",), bytes(blocks * BLOCK_BYTES), 0 if below is None else below.end, below)


ROOT = prefix(0, 3)
PREFIXES = [None, ROOT, prefix(1, 2, ROOT), prefix(2, 5, ROOT), prefix(3, 9)]


class Room:
    """So many blocks and rows."""

    def __init__(self, blocks: int, rows: int) -> None:
        self.blocks, self.rows = blocks, rows
        self.counted: set[Prefix] = set()

    @property
    def is_full(self) -> bool:
        return self.blocks <= 0 or self.rows == 0

    def needed(self, need: Need) -> int:
        prefix, blocks = need
        path = [] if prefix is None else prefix.path_up
        return blocks + sum(above.num_blocks for above in path if above not in self.counted)

    def fits(self, needs: Needs) -> bool:
        return any(self.needed(need) <= self.blocks for need in needs)

    def admits(self, need: Need) -> bool:
        if self.is_full or self.needed(need) > self.blocks:
            return False
        self.blocks -= self.needed(need)
        self.rows -= 1
        self.counted |= set([] if need[0] is None else need[0].path_up)
        return True


def plain_walk(waiting: dict[int, tuple[Need, int]], room: Room) -> tuple[list[int], int | None]:
    """Return whom a walk by rank admits, and whom it passes over first."""
    admitted, blocked = [], None
    for number in sorted(waiting, key=lambda number: (waiting[number][1], number)):
        if room.is_full:
            break
        if room.admits(waiting[number][0]):
            admitted.append(number)
        elif blocked is None:
            blocked = number
    return admitted, blocked


@given(items, st.integers(0, 40), st.integers(0, 8), st.booleans())
def test_it_admits_whom_a_walk_through_all_would_admit(
    drawn: list[tuple[int, int, int, bool]], blocks: int, rows: int, rekeyed: bool
) -> None:
    queue: NeedsQueue[int] = NeedsQueue()
    waiting: dict[int, tuple[Need, int]] = {}
    for number, (own, key, stands_on, stays) in enumerate(drawn):
        need = PREFIXES[stands_on], own
        queue.add(number, frozenset({need}), key, number)
        waiting[number] = need, key
        if not stays:
            assert queue.discard(number) == frozenset({need})
            del waiting[number]
    if rekeyed:
        waiting = {number: (need, -key) for number, (need, key) in waiting.items()}
        queue.rekey(lambda number: waiting[number][1])
    queue.check()
    room = Room(blocks, rows)
    admitted, passed_over = [], []
    for number in queue.walk(room):
        (admitted if room.admits(waiting[number][0]) else passed_over).append(number)
    expected, first_blocked = plain_walk(waiting, Room(blocks, rows))
    assert admitted == expected
    assert first_blocked is None or passed_over[0] == first_blocked


@given(items, st.integers(0, 40))
def test_the_least_needs_fit_if_and_only_if_one_of_all_fits(
    drawn: list[tuple[int, int, int, bool]], blocks: int
) -> None:
    several = [frozenset({(PREFIXES[stands_on], own)}) for own, _, stands_on, _ in drawn]
    room = Room(blocks, 1)
    assert room.fits(least(several)) == any(map(room.fits, several))
