"""What admitted requests take, from which victims, and in which order."""

from service.core.messages.events import FinishReason, KVDropped, Preempted, SessionDropped
from service.core.state.requests import State
from service.core.switching.victims import SLACK_BLOCKS
from tests.core.bench import BLOCK, Bench


def test_free_blocks_are_available_at_once_and_need_no_victim() -> None:
    bench = Bench(device=10)
    preempted, newcomer = bench.preempted(4), bench.waiting(5 * BLOCK)
    assert bench.victims([newcomer], [preempted]).obtain_blocks(newcomer)
    assert bench.device(preempted) == 4
    assert not bench.swaps.issued()


def test_clean_blocks_are_taken_at_once_from_the_tail_and_no_more_than_needed() -> None:
    bench = Bench(device=10)
    preempted, newcomer = bench.preempted(10, mirrored=True), bench.waiting(4 * BLOCK)
    assert bench.victims([newcomer], [preempted]).obtain_blocks(newcomer)
    assert bench.memory.watermarks(preempted.sequence)[:3] == (10 * BLOCK, 6 * BLOCK, 10 * BLOCK)
    bench.check()


def test_dirty_blocks_are_copied_out_first_and_are_there_when_that_has_ended() -> None:
    bench = Bench(device=10)
    preempted, newcomer = bench.preempted(10), bench.waiting(4 * BLOCK)
    assert not bench.victims([newcomer], [preempted]).obtain_blocks(newcomer)
    assert [ticket.num_blocks for ticket in bench.end_copies()] == [4]
    assert bench.victims([newcomer], [preempted]).obtain_blocks(newcomer)
    assert not bench.events(KVDropped)


def test_a_victim_of_86_blocks_gives_about_what_is_asked_for() -> None:
    bench = Bench(device=130, host=90)
    victim, newcomer = bench.preempted(86), bench.waiting(50 * BLOCK)
    assert not bench.victims([newcomer], [victim]).obtain_blocks(newcomer)
    assert [ticket.num_blocks for ticket in bench.end_copies()] == [6 + SLACK_BLOCKS]
    assert bench.victims([newcomer], [victim]).obtain_blocks(newcomer)
    assert (bench.device(victim), bench.host(victim)) == (80, 6 + SLACK_BLOCKS)
    bench.swaps.start_swap_in(victim, victim.sequence)
    assert [ticket.num_blocks for ticket in bench.end_copies()] == [6]


def test_one_copy_is_for_all_that_the_admitted_lack() -> None:
    bench = Bench(device=130, host=60)
    victim, one, two = bench.preempted(130), bench.waiting(5 * BLOCK), bench.waiting(7 * BLOCK)
    victims = bench.victims([one, two], [victim])
    assert not victims.obtain_blocks(one)
    assert not victims.obtain_blocks(two)
    assert [ticket.num_blocks for ticket in bench.swaps.issued()] == [12 + SLACK_BLOCKS]


def test_a_batch_that_grows_by_a_block_a_step_does_not_need_a_copy_a_step() -> None:
    bench = Bench(device=130, host=60)
    victim, grows = bench.preempted(120), bench.running(10)
    copies = 0
    for _ in range(3 * SLACK_BLOCKS):
        if not bench.victims([grows], [victim]).obtain_blocks(grows):
            copies += len(bench.end_copies())
            assert bench.victims([grows], [victim]).obtain_blocks(grows)
        bench.memory.reserve(grows.sequence, grows.num_tokens)
        bench.memory.append(grows.sequence, BLOCK)
        grows.session.tokens += [0] * BLOCK
    assert copies == 3


def test_what_is_behind_a_copy_arrives_so_nobody_is_preempted_again_and_again_while_it_lasts() -> None:
    """Thrash behind a fence: blocks that were not free yet made each try to plan take one more victim."""
    bench = Bench(device=40, host=40)
    running, newcomer = [bench.running(10, 150) for _ in range(4)], bench.waiting(8 * BLOCK)
    for _ in range(20):
        victims = bench.victims([newcomer], [request for request in running if request.slot is not None])
        assert not victims.obtain_blocks(newcomer)
        assert len(victims.still_running()) == 3
    assert bench.events(Preempted) == [Preempted(running[-1].request_id, "room")]
    assert [ticket.node for ticket in bench.end_copies()] == [running[-1].sequence]
    assert bench.victims([newcomer], running).obtain_blocks(newcomer)


def test_requests_that_wait_without_blocks_are_no_victims() -> None:
    bench = Bench(device=10)
    victim, newcomer = bench.preempted(6, mirrored=True), bench.waiting(8 * BLOCK)
    others = [victim, *(bench.waiting(BLOCK) for _ in range(3))]
    assert bench.victims([newcomer], others).obtain_blocks(newcomer)


def test_idle_sessions_go_first_longest_silent_first_then_the_lowest_rank() -> None:
    bench = Bench(device=12)
    oldest, youngest = (bench.idle(3, mirrored=True) for _ in range(2))
    better, worse = (bench.preempted(3, mirrored=True) for _ in range(2))
    newcomer = bench.waiting(12 * BLOCK)
    left = []
    for blocks in (2, 4, 8, 11):
        newcomer.session.tokens = [0] * (blocks * BLOCK)
        assert bench.victims([newcomer], [better, worse]).obtain_blocks(newcomer)
        left.append([bench.device(owner) for owner in (oldest, youngest, worse, better)])
    assert left == [[1, 3, 3, 3], [0, 2, 3, 3], [0, 0, 1, 3], [0, 0, 0, 1]]


def test_running_victims_lose_their_slot_only_after_all_others_gave_their_blocks() -> None:
    bench = Bench(device=10)
    preempted, runs_on, falls = bench.preempted(3, mirrored=True), bench.running(3, 40), bench.running(4, 50)
    newcomer = bench.waiting(3 * BLOCK)
    assert bench.victims([newcomer], [runs_on, falls, preempted]).obtain_blocks(newcomer)
    assert not bench.events(Preempted)
    newcomer.session.tokens = [0] * (4 * BLOCK)
    assert not bench.victims([newcomer], [runs_on, falls, preempted]).obtain_blocks(newcomer)
    assert bench.events(Preempted) == [Preempted(falls.request_id, "room")]


def test_arriving_blocks_count_so_there_is_no_second_victim_for_the_same_need() -> None:
    bench = Bench(device=10)
    better, worse, newcomer = bench.preempted(5), bench.preempted(5), bench.waiting(4 * BLOCK)
    for _ in range(3):
        bench.victims([newcomer], [better, worse]).obtain_blocks(newcomer)
    assert [ticket.node for ticket in bench.swaps.issued()] == [worse.sequence]


def test_arriving_blocks_do_not_count_twice_for_two_that_wait() -> None:
    bench = Bench(device=10)
    better, worse = bench.preempted(5), bench.preempted(5)
    one, two = bench.waiting(4 * BLOCK), bench.waiting(4 * BLOCK)
    victims = bench.victims([one, two], [better, worse])
    assert not victims.obtain_blocks(one)
    assert not victims.obtain_blocks(two)
    assert [ticket.node for ticket in bench.swaps.issued()] == [worse.sequence, better.sequence]


def test_blocks_of_an_admitted_request_are_not_arriving_for_others() -> None:
    bench = Bench(device=10)
    back, victim, newcomer = bench.preempted(5), bench.preempted(5), bench.waiting(4 * BLOCK)
    bench.swaps.start_swap_out(back.session, bench.host_victims([]), back)  # then its rank rose
    bench.victims([back, newcomer], [victim]).obtain_blocks(newcomer)
    assert [ticket.node for ticket in bench.swaps.issued()] == [back.sequence, victim.sequence]


def test_blocks_that_a_cancelled_request_left_to_a_copy_are_arriving() -> None:
    bench = Bench(device=10)
    gone, bystander, newcomer = bench.preempted(5), bench.preempted(5), bench.waiting(4 * BLOCK)
    bench.swaps.start_swap_out(gone.session, bench.host_victims([]), gone)
    bench.ledger.finish(gone, FinishReason.ERROR, 0.0)
    assert not bench.victims([newcomer], [bystander]).obtain_blocks(newcomer)
    assert [ticket.node for ticket in bench.end_copies()] == [gone.sequence]
    assert bench.victims([newcomer], [bystander]).obtain_blocks(newcomer)


def test_blocks_promised_to_one_are_not_available_to_the_next() -> None:
    bench = Bench(device=10)
    bench.running(4, 60)
    first, second = bench.waiting(10 * BLOCK), bench.waiting(6 * BLOCK)
    victims = bench.victims([first, second], [])
    assert not victims.obtain_blocks(first)
    assert not victims.obtain_blocks(second)


def test_a_request_that_needs_no_block_runs_although_others_wait_for_blocks() -> None:
    bench = Bench(device=10)
    grows, needs_nothing, victim = bench.running(3), bench.running(3, 40), bench.preempted(4)
    victims = bench.victims([grows, needs_nothing], [victim])
    assert not victims.obtain_blocks(grows)
    assert victims.obtain_blocks(needs_nothing)


def test_what_cannot_be_copied_is_dropped_tail_first_and_only_as_much_as_is_needed() -> None:
    bench = Bench(device=10, host=0)
    victim, newcomer = bench.preempted(10), bench.waiting(3 * BLOCK)
    assert bench.victims([newcomer], [victim]).obtain_blocks(newcomer)
    assert bench.memory.computed(victim.sequence) == 7 * BLOCK
    assert bench.events(KVDropped) == [KVDropped("no_swap", 3 * BLOCK)]


def test_blocks_without_kv_are_taken_without_dropping_any() -> None:
    bench = Bench(device=10, host=0)
    victim, newcomer = bench.preempted(10, tokens=5 * BLOCK), bench.waiting(5 * BLOCK)
    assert bench.victims([newcomer], [victim]).obtain_blocks(newcomer)
    assert bench.memory.computed(victim.sequence) == 5 * BLOCK
    assert not bench.events(KVDropped)


def test_an_idle_session_whose_kv_is_all_dropped_is_dropped() -> None:
    bench = Bench(device=4, host=0)
    session, newcomer = bench.idle(4), bench.waiting(4 * BLOCK)
    assert bench.victims([newcomer], []).obtain_blocks(newcomer)
    assert bench.events(SessionDropped) == [SessionDropped("room", 4 * BLOCK + 1)]
    assert session.sequence not in bench.memory.sequences


def test_copying_ahead_spares_running_requests() -> None:
    bench = Bench(device=10)
    runs, preempted = bench.running(5, 70), bench.preempted(5)
    bench.victims([], [runs, preempted]).copy_ahead(8)
    assert [ticket.node for ticket in bench.swaps.issued()] == [preempted.sequence]
    assert runs.state is State.RUNNING


def test_copying_ahead_takes_nothing_so_a_victim_that_resumes_early_has_all_its_kv() -> None:
    bench = Bench(device=10)
    bench.running(5, 70)
    preempted = bench.preempted(5, mirrored=True)
    bench.victims([], [preempted]).copy_ahead(3)
    assert bench.device(preempted) == 5


def test_copying_ahead_drops_no_kv_when_the_host_is_full() -> None:
    bench = Bench(device=10, host=2)
    bench.running(5, 70)
    preempted = bench.preempted(5)
    bench.victims([], [preempted]).copy_ahead(3)
    assert bench.memory.computed(preempted.sequence) == 5 * BLOCK
    assert not bench.events(KVDropped)


def test_copying_ahead_goes_on_to_the_next_victim_when_one_has_not_enough() -> None:
    bench = Bench(device=10)
    bench.running(4, 60)
    dirty, clean = bench.preempted(3), bench.preempted(3, mirrored=True)
    bench.victims([], [dirty, clean]).copy_ahead(5)
    assert [ticket.node for ticket in bench.swaps.issued()] == [dirty.sequence]


def test_the_lowest_running_victim_gives_its_slot_and_keeps_its_kv() -> None:
    bench = Bench(device=10, slots=2)
    better, worse = bench.running(3, 40), bench.running(3, 40)
    victims = bench.victims([], [better, worse])
    victims.take_slot()
    assert bench.events(Preempted) == [Preempted(worse.request_id, "slot")]
    assert (victims.num_running, bench.device(worse)) == (1, 3)


def test_requests_that_are_not_admitted_go_on_until_they_need_a_block() -> None:
    bench = Bench(device=10)
    fits, full = bench.running(3, 40), bench.running(3)
    assert bench.victims([], [fits, full]).still_running() == [fits]
    assert bench.events(Preempted) == [Preempted(full.request_id, "growth")]
