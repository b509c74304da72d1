"""The queue by sizes yields what a walk through all that wait would admit."""

from hypothesis import given
from hypothesis import strategies as st

from service.core.state.waiting import SizedQueue

items = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 3), st.booleans()), max_size=30)


class Room:
    """So many blocks and rows."""

    def __init__(self, blocks: int, rows: int) -> None:
        self.largest, self.rows = blocks, rows

    @property
    def is_full(self) -> bool:
        return self.largest <= 0 or self.rows == 0

    def admits(self, size: int) -> bool:
        if self.is_full or size > self.largest:
            return False
        self.largest -= size
        self.rows -= 1
        return True


def plain_walk(waiting: dict[int, tuple[int, int]], room: Room) -> tuple[list[int], int | None]:
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
    drawn: list[tuple[int, int, bool]], blocks: int, rows: int, rekeyed: bool
) -> None:
    queue: SizedQueue[int] = SizedQueue()
    waiting = {}
    for number, (size, key, stays) in enumerate(drawn):
        queue.add(number, size, key, number)
        waiting[number] = size, key
        if not stays:
            assert queue.discard(number) == size
            del waiting[number]
    if rekeyed:
        waiting = {number: (size, -key) for number, (size, key) in waiting.items()}
        queue.rekey(lambda number: waiting[number][1])
    queue.check()
    room = Room(blocks, rows)
    admitted, passed_over = [], []
    for number in queue.walk(room):
        (admitted if room.admits(waiting[number][0]) else passed_over).append(number)
    expected, first_blocked = plain_walk(waiting, Room(blocks, rows))
    assert admitted == expected
    assert first_blocked is None or passed_over[0] == first_blocked
