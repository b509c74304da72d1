"""Which sessions give host blocks, in which order, and what is never taken."""

from service.core.messages.events import Contaminated, SessionDropped
from tests.core.bench import BLOCK, Bench


def test_free_host_blocks_are_enough() -> None:
    bench = Bench(host=10)
    copy, owner = bench.preempted(4, mirrored=True), bench.preempted(6)
    assert bench.host_victims([owner, copy]).make_available(6, owner.session)
    assert bench.host(copy) == 4


def test_redundant_copies_are_given_up_lowest_rank_first_and_tail_first() -> None:
    bench = Bench(device=30, host=10)
    best, middle, worst = (bench.preempted(blocks, mirrored=True) for blocks in (3, 3, 4))
    owner = bench.preempted(6)
    victims = bench.host_victims([best, middle, worst, owner])
    left = []
    for blocks in (1, 4, 6, 9, 10):
        assert victims.make_available(blocks, owner.session)
        left.append([bench.host(request) for request in (worst, middle, best)])
    assert left == [[3, 3, 3], [0, 3, 3], [0, 1, 3], [0, 0, 1], [0, 0, 0]]
    assert bench.memory.watermarks(best.sequence)[:3] == (3 * BLOCK, 3 * BLOCK, 0)
    assert sum(event.blocks for event in bench.events(Contaminated)) == 10


def test_redundant_copies_go_before_any_idle_conversation() -> None:
    bench = Bench(device=30, host=8)
    session, copy, owner = bench.idle(4, on_device=False), bench.preempted(4, mirrored=True), bench.preempted(4)
    assert bench.host_victims([copy, owner]).make_available(4, owner.session)
    assert (bench.host(copy), bench.host(session)) == (0, 4)


def test_idle_conversations_go_longest_silent_first() -> None:
    bench = Bench(device=30, host=9)
    youngest = [bench.idle(3, on_device=False) for _ in range(3)][-1]
    owner = bench.preempted(4)
    assert bench.host_victims([owner]).make_available(4, owner.session)
    assert set(bench.ledger.sessions.idle) == {youngest}
    assert len(bench.events(SessionDropped)) == 2


def test_an_idle_conversation_that_is_on_the_device_too_gives_its_copy_and_stays() -> None:
    bench = Bench(device=30, host=3)
    session, owner = bench.idle(3, mirrored=True), bench.preempted(3)
    assert bench.host_victims([owner]).make_available(2, owner.session)
    assert (bench.host(session), bench.device(session)) == (1, 3)
    assert bench.ledger.sessions.idle == [session]


def test_an_idle_conversation_on_its_way_out_takes_blocks_from_older_ones_only() -> None:
    bench = Bench(device=30, host=6)
    older, owner, younger = bench.idle(3, on_device=False), bench.idle(5), bench.idle(3, on_device=False)
    assert bench.host_victims([]).make_available(3, owner)
    assert not bench.host_victims([]).make_available(5, owner)
    assert bench.ledger.sessions.idle == [owner, younger]
    assert older.sequence not in bench.memory.sequences


def test_the_only_copy_of_a_live_request_is_never_taken() -> None:
    bench = Bench(device=30, host=8)
    live, half, owner = bench.swapped(4), bench.preempted(4, mirrored=True), bench.preempted(4)
    bench.memory.reclaim_device(half.sequence, 1)  # a part of it is on the host alone
    assert not bench.host_victims([owner, half, live]).make_available(1, owner.session)
    assert (bench.host(live), bench.host(half)) == (4, 4)


def test_blocks_under_copy_are_not_taken() -> None:
    bench = Bench(device=30, host=8)
    swapping_in, leaving, owner = bench.swapped(4), bench.idle(4), bench.preempted(4)
    bench.swaps.start_swap_in(swapping_in, swapping_in.sequence)
    bench.swaps.start_swap_out(leaving, bench.host_victims([]))
    assert not bench.host_victims([owner, swapping_in]).make_available(1, owner.session)
    assert bench.ledger.sessions.idle == [leaving]
    bench.check()


def test_an_idle_conversation_that_is_on_the_device_alone_has_nothing_to_give_and_stays() -> None:
    bench = Bench(device=30, host=4)
    session, _live, owner = bench.idle(3), bench.swapped(4), bench.preempted(4)
    assert not bench.host_victims([owner]).make_available(1, owner.session)
    assert bench.ledger.sessions.idle == [session]


def test_a_session_that_never_fits_takes_nothing() -> None:
    bench = Bench(device=30, host=8)
    session, owner = bench.idle(3, on_device=False), bench.preempted(10, tokens=5 * BLOCK)
    bench.mirror(owner.session)
    bench.memory.append(owner.sequence, 5 * BLOCK)  # 5 blocks on the host, 5 more to copy, 8 in all there
    assert not bench.host_victims([owner]).make_available(5, owner.session)
    assert bench.ledger.sessions.idle == [session]


def test_the_owner_gives_up_nothing_for_itself() -> None:
    bench = Bench(device=30, host=5)
    owner = bench.preempted(5, tokens=3 * BLOCK)
    bench.mirror(owner.session)
    bench.memory.append(owner.sequence, 2 * BLOCK)
    assert bench.host_victims([owner]).make_available(2, owner.session)
    assert bench.host(owner) == 3


def test_nothing_is_taken_where_it_would_not_be_enough() -> None:
    bench = Bench(device=30, host=9)
    giver, owner = bench.idle(3, on_device=False), bench.preempted(4)
    only_there = bench.preempted(6, mirrored=True)
    assert bench.memory.reclaim_device(only_there.sequence, 6) == 6
    assert not bench.host_victims([owner, only_there]).make_available(4, owner.session)
    assert bench.memory.host.used(giver.sequence) == 3
