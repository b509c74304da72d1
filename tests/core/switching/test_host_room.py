"""Who gives up host blocks, in which order, and what nobody gives up."""

from service.core.messages.events import Contaminated, SessionDropped
from tests.core.bench import BLOCK, Bench


def test_free_room_is_enough() -> None:
    bench = Bench(host=10)
    copy, owner = bench.parked(4, mirrored=True), bench.parked(6)
    assert bench.room([owner, copy]).make(6, owner.session)
    assert bench.host(copy) == 4


def test_redundant_copies_are_given_up_lowest_rank_first_and_tail_first() -> None:
    bench = Bench(device=30, host=10)
    best, middle, worst = (bench.parked(blocks, mirrored=True) for blocks in (3, 3, 4))
    owner = bench.parked(6)
    room = bench.room([best, middle, worst, owner])
    left = []
    for blocks in (1, 4, 6, 9, 10):
        assert room.make(blocks, owner.session)
        left.append([bench.host(request) for request in (worst, middle, best)])
    assert left == [[3, 3, 3], [0, 3, 3], [0, 1, 3], [0, 0, 1], [0, 0, 0]]
    assert bench.memory.watermarks(best.sequence)[:3] == (3 * BLOCK, 3 * BLOCK, 0)
    assert sum(event.blocks for event in bench.told(Contaminated)) == 10


def test_redundant_copies_go_before_any_idle_conversation() -> None:
    bench = Bench(device=30, host=8)
    session, copy, owner = bench.idle(4, on_device=False), bench.parked(4, mirrored=True), bench.parked(4)
    assert bench.room([copy, owner]).make(4, owner.session)
    assert (bench.host(copy), bench.host(session)) == (0, 4)


def test_idle_conversations_go_longest_silent_first() -> None:
    bench = Bench(device=30, host=9)
    youngest = [bench.idle(3, on_device=False) for _ in range(3)][-1]
    owner = bench.parked(4)
    assert bench.room([owner]).make(4, owner.session)
    assert set(bench.ledger.sessions.idle) == {youngest}
    assert len(bench.told(SessionDropped)) == 2


def test_an_idle_conversation_that_is_on_the_device_too_gives_its_copy_and_stays() -> None:
    bench = Bench(device=30, host=3)
    session, owner = bench.idle(3, mirrored=True), bench.parked(3)
    assert bench.room([owner]).make(2, owner.session)
    assert (bench.host(session), bench.device(session)) == (1, 3)
    assert bench.ledger.sessions.idle == [session]


def test_an_idle_conversation_on_its_way_out_takes_room_from_older_ones_only() -> None:
    bench = Bench(device=30, host=6)
    older, owner, younger = bench.idle(3, on_device=False), bench.idle(5), bench.idle(3, on_device=False)
    assert bench.room([]).make(3, owner)
    assert not bench.room([]).make(5, owner)
    assert bench.ledger.sessions.idle == [owner, younger]
    assert older.sequence not in bench.memory.sequences


def test_the_only_copy_of_a_live_request_is_never_taken() -> None:
    bench = Bench(device=30, host=8)
    live, half, owner = bench.swapped(4), bench.parked(4, mirrored=True), bench.parked(4)
    bench.memory.reclaim_device(half.sequence, 1)  # a part of it is on the host alone
    assert not bench.room([owner, half, live]).make(1, owner.session)
    assert (bench.host(live), bench.host(half)) == (4, 4)


def test_blocks_under_copy_are_not_taken() -> None:
    bench = Bench(device=30, host=8)
    coming, leaving, owner = bench.swapped(4), bench.idle(4), bench.parked(4)
    bench.swaps.start_in(coming)
    bench.swaps.start_out(leaving, bench.room([]))
    assert not bench.room([owner, coming]).make(1, owner.session)
    assert bench.ledger.sessions.idle == [leaving]
    bench.check()


def test_an_idle_conversation_that_is_on_the_device_alone_has_nothing_to_give_and_stays() -> None:
    bench = Bench(device=30, host=4)
    session, _live, owner = bench.idle(3), bench.swapped(4), bench.parked(4)
    assert not bench.room([owner]).make(1, owner.session)
    assert bench.ledger.sessions.idle == [session]


def test_who_never_fits_drives_nobody_out() -> None:
    bench = Bench(device=30, host=8)
    session, owner = bench.idle(3, on_device=False), bench.parked(10, tokens=5 * BLOCK)
    bench.mirror(owner.session)
    bench.memory.append(owner.sequence, 5 * BLOCK)  # 5 blocks on the host, 5 more to copy, 8 in all there
    assert not bench.room([owner]).make(5, owner.session)
    assert bench.ledger.sessions.idle == [session]


def test_the_owner_gives_up_nothing_for_itself() -> None:
    bench = Bench(device=30, host=5)
    owner = bench.parked(5, tokens=3 * BLOCK)
    bench.mirror(owner.session)
    bench.memory.append(owner.sequence, 2 * BLOCK)
    assert bench.room([owner]).make(2, owner.session)
    assert bench.host(owner) == 3


def test_nothing_is_taken_where_it_would_not_be_enough() -> None:
    bench = Bench(device=30, host=9)
    giver, owner = bench.idle(3, on_device=False), bench.parked(4)
    only_there = bench.parked(6, mirrored=True)
    assert bench.memory.reclaim_device(only_there.sequence, 6) == 6
    assert not bench.room([owner, only_there]).make(4, owner.session)
    assert bench.memory.host.used(giver.sequence) == 3
