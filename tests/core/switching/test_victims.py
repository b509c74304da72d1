"""What those above the cut take, from whom, and in which order."""

from service.core.messages.events import KVDropped, Preempted, SessionDropped
from service.core.state.requests import State
from tests.core.bench import BLOCK, Bench


def test_free_room_is_had_at_once_and_costs_nobody() -> None:
    bench = Bench(device=10)
    parked, newcomer = bench.parked(4), bench.waiting(5 * BLOCK)
    assert bench.displacement([newcomer], [parked]).obtain(newcomer)
    assert bench.device(parked) == 4
    assert not bench.swaps.issued()


def test_clean_blocks_are_taken_at_once_from_the_tail_and_no_more_than_needed() -> None:
    bench = Bench(device=10)
    parked, newcomer = bench.parked(10, mirrored=True), bench.waiting(4 * BLOCK)
    assert bench.displacement([newcomer], [parked]).obtain(newcomer)
    assert bench.memory.watermarks(parked.sequence)[:3] == (10 * BLOCK, 6 * BLOCK, 10 * BLOCK)
    bench.check()


def test_dirty_blocks_are_copied_out_first_and_are_there_when_that_has_ended() -> None:
    bench = Bench(device=10)
    parked, newcomer = bench.parked(10), bench.waiting(4 * BLOCK)
    assert not bench.displacement([newcomer], [parked]).obtain(newcomer)
    assert [ticket.num_blocks for ticket in bench.end_copies()] == [10]
    assert bench.displacement([newcomer], [parked]).obtain(newcomer)
    assert not bench.told(KVDropped)


def test_idle_sessions_go_first_longest_silent_first_then_the_lowest_rank() -> None:
    bench = Bench(device=12)
    oldest, youngest = (bench.idle(3, mirrored=True) for _ in range(2))
    better, worse = (bench.parked(3, mirrored=True) for _ in range(2))
    newcomer = bench.waiting(12 * BLOCK)
    left = []
    for blocks in (2, 4, 8, 11):
        newcomer.session.tokens = [0] * (blocks * BLOCK)
        assert bench.displacement([newcomer], [better, worse]).obtain(newcomer)
        left.append([bench.device(owner) for owner in (oldest, youngest, worse, better)])
    assert left == [[1, 3, 3, 3], [0, 2, 3, 3], [0, 0, 1, 3], [0, 0, 0, 1]]


def test_running_losers_lose_their_slot_only_after_everybody_else_gave_all() -> None:
    bench = Bench(device=10)
    parked, runs_on, falls = bench.parked(3, mirrored=True), bench.running(3, 40), bench.running(4, 50)
    newcomer = bench.waiting(3 * BLOCK)
    assert bench.displacement([newcomer], [runs_on, falls, parked]).obtain(newcomer)
    assert not bench.told(Preempted)
    newcomer.session.tokens = [0] * (4 * BLOCK)
    assert not bench.displacement([newcomer], [runs_on, falls, parked]).obtain(newcomer)
    assert bench.told(Preempted) == [Preempted(falls.request_id, "room")]


def test_blocks_on_their_way_count_so_nobody_else_is_driven_out_for_the_same_need() -> None:
    bench = Bench(device=10)
    better, worse, newcomer = bench.parked(5), bench.parked(5), bench.waiting(4 * BLOCK)
    for _ in range(3):
        bench.displacement([newcomer], [better, worse]).obtain(newcomer)
    assert [ticket.sequence for ticket in bench.swaps.issued()] == [worse.sequence]


def test_blocks_on_their_way_do_not_count_twice_for_two_who_wait() -> None:
    bench = Bench(device=10)
    better, worse = bench.parked(5), bench.parked(5)
    one, two = bench.waiting(4 * BLOCK), bench.waiting(4 * BLOCK)
    displacement = bench.displacement([one, two], [better, worse])
    assert not displacement.obtain(one)
    assert not displacement.obtain(two)
    assert [ticket.sequence for ticket in bench.swaps.issued()] == [worse.sequence, better.sequence]


def test_blocks_of_somebody_above_the_cut_are_not_arriving_for_others() -> None:
    bench = Bench(device=10)
    back, victim, newcomer = bench.parked(5), bench.parked(5), bench.waiting(4 * BLOCK)
    room = bench.room([])
    bench.swaps.start_out(back.session, room, back)  # then its rank rose
    bench.displacement([back, newcomer], [victim]).obtain(newcomer)
    assert [ticket.sequence for ticket in bench.swaps.issued()] == [back.sequence, victim.sequence]


def test_blocks_that_a_cancelled_request_left_to_a_copy_are_arriving() -> None:
    bench = Bench(device=10)
    gone, bystander, newcomer = bench.parked(5), bench.parked(5), bench.waiting(4 * BLOCK)
    bench.swaps.start_out(gone.session, bench.room([]), gone)
    del bench.ledger.live[gone.request_id]
    bench.ledger.sessions.close(gone.session)
    bench.memory.drop(gone.sequence)
    assert not bench.displacement([newcomer], [bystander]).obtain(newcomer)
    assert [ticket.sequence for ticket in bench.end_copies()] == [gone.sequence]
    assert bench.displacement([newcomer], [bystander]).obtain(newcomer)


def test_room_that_one_waits_for_is_not_given_to_the_next() -> None:
    bench = Bench(device=10)
    bench.running(4, 60)
    first, second = bench.waiting(10 * BLOCK), bench.waiting(6 * BLOCK)
    displacement = bench.displacement([first, second], [])
    assert not displacement.obtain(first)
    assert not displacement.obtain(second)


def test_who_needs_nothing_runs_although_others_wait_for_room() -> None:
    bench = Bench(device=10)
    grows, needs_nothing, victim = bench.running(3), bench.running(3, 40), bench.parked(4)
    displacement = bench.displacement([grows, needs_nothing], [victim])
    assert not displacement.obtain(grows)
    assert displacement.obtain(needs_nothing)


def test_what_cannot_be_copied_is_dropped_tail_first_and_only_as_much_as_is_needed() -> None:
    bench = Bench(device=10, host=0)
    victim, newcomer = bench.parked(10), bench.waiting(3 * BLOCK)
    assert bench.displacement([newcomer], [victim]).obtain(newcomer)
    assert bench.memory.computed(victim.sequence) == 7 * BLOCK
    assert bench.told(KVDropped) == [KVDropped("no_swap", 3 * BLOCK)]


def test_room_without_kv_is_taken_without_dropping_any() -> None:
    bench = Bench(device=10, host=0)
    victim, newcomer = bench.parked(10, tokens=5 * BLOCK), bench.waiting(5 * BLOCK)
    assert bench.displacement([newcomer], [victim]).obtain(newcomer)
    assert bench.memory.computed(victim.sequence) == 5 * BLOCK
    assert not bench.told(KVDropped)


def test_an_idle_session_whose_kv_is_all_dropped_goes() -> None:
    bench = Bench(device=4, host=0)
    session, newcomer = bench.idle(4), bench.waiting(4 * BLOCK)
    assert bench.displacement([newcomer], []).obtain(newcomer)
    assert bench.told(SessionDropped) == [SessionDropped("room", 4 * BLOCK + 1)]
    assert session.sequence not in bench.memory.sequences


def test_preparing_copies_ahead_but_spares_those_who_run() -> None:
    bench = Bench(device=10)
    runs, parked = bench.running(5, 70), bench.parked(5)
    bench.displacement([], [runs, parked]).prepare(8)
    assert [ticket.sequence for ticket in bench.swaps.issued()] == [parked.sequence]
    assert runs.state is State.RUNNING


def test_preparing_takes_nothing_so_who_returns_before_the_need_has_all_its_kv() -> None:
    bench = Bench(device=10)
    bench.running(5, 70)
    parked = bench.parked(5, mirrored=True)
    bench.displacement([], [parked]).prepare(3)
    assert bench.device(parked) == 5


def test_preparing_drops_no_kv_that_the_host_has_no_room_for() -> None:
    bench = Bench(device=10, host=2)
    bench.running(5, 70)
    parked = bench.parked(5)
    bench.displacement([], [parked]).prepare(3)
    assert bench.memory.computed(parked.sequence) == 5 * BLOCK
    assert not bench.told(KVDropped)


def test_preparing_goes_on_to_the_next_victim_when_one_has_not_enough() -> None:
    bench = Bench(device=10)
    bench.running(4, 60)
    dirty, clean = bench.parked(3), bench.parked(3, mirrored=True)
    bench.displacement([], [dirty, clean]).prepare(5)
    assert [ticket.sequence for ticket in bench.swaps.issued()] == [dirty.sequence]


def test_the_lowest_running_loser_yields_its_slot_and_keeps_its_kv() -> None:
    bench = Bench(device=10, slots=2)
    better, worse = bench.running(3, 40), bench.running(3, 40)
    displacement = bench.displacement([], [better, worse])
    displacement.yield_slot()
    assert bench.told(Preempted) == [Preempted(worse.request_id, "slot")]
    assert (displacement.num_running, bench.device(worse)) == (1, 3)


def test_losers_go_on_until_they_need_a_block() -> None:
    bench = Bench(device=10)
    fits, full = bench.running(3, 40), bench.running(3)
    assert bench.displacement([], [fits, full]).still_running() == [fits]
    assert bench.told(Preempted) == [Preempted(full.request_id, "growth")]
