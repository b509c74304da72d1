"""Copies from their start to their end: which request is charged, where KV is left, and what failures lead to."""

import pytest

from allocator import UnknownTicketError
from service.core.messages.events import CopyEnded, CopyStarted
from service.core.messages.plan import CopyResult
from service.core.switching.swaps import RETRIES
from tests.core.bench import BLOCK, Bench


def fail_for_good(bench: Bench, start: object) -> None:
    for _ in range(RETRIES + 1):
        assert start() is None  # type: ignore[operator]
        bench.end_copies(failed=True)


def test_a_copy_out_leaves_kv_on_both_sides_and_emits_events() -> None:
    bench = Bench()
    request = bench.preempted(3)
    assert bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request) is None
    assert bench.events(CopyStarted) == [CopyStarted("out", 3, 0)]
    bench.end_copies(seconds=0.5)
    assert bench.events(CopyEnded) == [CopyEnded("out", 3, 1, 0.5, failed=False)]
    assert bench.memory.watermarks(request.sequence)[:3] == (3 * BLOCK, 3 * BLOCK, 3 * BLOCK)


def test_a_second_copy_out_is_of_what_is_new_and_tells_what_it_reused() -> None:
    bench = Bench()
    request = bench.preempted(5, tokens=3 * BLOCK + 5, mirrored=True)
    bench.memory.append(request.sequence, BLOCK)
    assert bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request) is None
    assert bench.events(CopyStarted) == [CopyStarted("out", 2, 3)]


def test_what_was_started_is_issued_once() -> None:
    bench = Bench()
    request = bench.swapped(3)
    bench.swaps.start_swap_in(request, request.sequence)
    assert [ticket.node for ticket in bench.swaps.issued()] == [request.sequence]
    assert bench.swaps.issued() == ()


def test_a_ticket_that_is_not_in_flight_is_a_bug() -> None:
    with pytest.raises(UnknownTicketError):
        Bench().swaps.end(CopyResult(7, 0.1, 1))


@pytest.mark.parametrize(
    ("host", "swap", "reason"), [(0, True, "no_swap"), (9, False, "no_swap"), (2, True, "host_full")]
)
def test_what_cannot_be_copied_out_says_why(host: int, swap: bool, reason: str) -> None:
    bench = Bench(host=host, swap=swap)
    request = bench.preempted(3)
    assert bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request) == reason
    assert bench.swaps.issued() == ()


def test_a_failed_copy_loses_nothing_and_is_tried_again() -> None:
    bench = Bench()
    request = bench.swapped(3)
    bench.swaps.start_swap_in(request, request.sequence)
    bench.end_copies(failed=True)
    assert bench.memory.watermarks(request.sequence)[:3] == (3 * BLOCK, 0, 3 * BLOCK)
    assert bench.device(request) == 0
    assert bench.swaps.must_recompute(request.sequence) is None
    bench.swaps.start_swap_in(request, request.sequence)
    bench.end_copies()
    assert bench.memory.is_resident(request.sequence)


def test_copies_in_that_fail_again_and_again_end_in_recomputation() -> None:
    bench = Bench()
    request = bench.swapped(3)
    fail_for_good(bench, lambda: bench.swaps.start_swap_in(request, request.sequence))
    assert bench.swaps.must_recompute(request.sequence) == "copy_failed"
    assert sum(event.failed for event in bench.events(CopyEnded)) == RETRIES + 1


def test_a_copy_that_works_forgives_the_failures_before_it() -> None:
    bench = Bench()
    request = bench.swapped(3)
    for failed in [True] * RETRIES + [False]:
        bench.swaps.start_swap_in(request, request.sequence)
        bench.end_copies(failed=failed)
    bench.memory.reclaim_device(request.sequence, 3)
    bench.swaps.start_swap_in(request, request.sequence)
    bench.end_copies(failed=True)
    assert bench.swaps.must_recompute(request.sequence) is None


def test_copies_out_are_tried_again_after_kv_had_to_be_dropped_for_their_failures() -> None:
    bench = Bench(device=10)
    request, newcomer = bench.preempted(10), bench.waiting(2 * BLOCK)
    fail_for_good(bench, lambda: bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request))
    assert bench.victims([newcomer], [request]).obtain_blocks(newcomer)
    assert bench.memory.computed(request.sequence) == 8 * BLOCK
    assert bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request) is None


def test_failures_of_conversations_that_ended_are_forgotten() -> None:
    bench = Bench()
    for _ in range(50):
        session = bench.idle(1)
        bench.swaps.start_swap_out(session, bench.host_victims([]))
        bench.end_copies(failed=True)
        bench.ledger.drop(session, "closed")
    assert len(bench.swaps._failures) <= 1


def test_a_stale_copy_moves_no_watermark_and_frees_what_it_held() -> None:
    bench = Bench()
    request = bench.preempted(5)
    bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request)
    bench.memory.truncate(request.sequence, 2 * BLOCK)
    bench.end_copies()
    assert bench.memory.watermarks(request.sequence)[:3] == (2 * BLOCK, 2 * BLOCK, 0)
    assert (bench.device(request), bench.host(request)) == (2, 0)


def test_a_copy_of_a_conversation_that_is_gone_ends_quietly() -> None:
    bench = Bench()
    session = bench.idle(5)
    bench.swaps.start_swap_out(session, bench.host_victims([]))
    bench.ledger.drop(session, "closed")
    assert bench.memory.device.num_used == 5
    bench.end_copies()
    assert bench.memory.device.num_used == bench.memory.host.num_used == 0


def test_without_reuse_what_has_left_is_on_the_host_alone() -> None:
    bench = Bench(reuse=False)
    request = bench.preempted(3)
    bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request)
    bench.end_copies()
    assert (bench.device(request), bench.host(request)) == (0, 3)


def test_without_reuse_what_has_come_in_is_on_the_device_alone() -> None:
    bench = Bench(reuse=False)
    request = bench.swapped(3)
    bench.swaps.start_swap_in(request, request.sequence)
    bench.end_copies()
    assert (bench.device(request), bench.host(request)) == (3, 0)


def test_without_reuse_a_request_that_runs_on_while_it_is_copied_out_stays_on_the_device() -> None:
    bench = Bench(reuse=False)
    request = bench.preempted(3)
    bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request)
    bench.ledger.give_slot(request, 0.0)
    bench.end_copies()
    assert (bench.device(request), bench.host(request)) == (3, 0)


def test_a_request_is_charged_for_the_blocks_that_were_copied_for_it() -> None:
    bench = Bench()
    request = bench.preempted(3)
    for failed in (True, False):
        bench.swaps.start_swap_out(request.session, bench.host_victims([request]), request)
        bench.end_copies(failed=failed)
    bench.memory.reclaim_device(request.sequence, 2)
    for failed in (True, False):
        bench.swaps.start_swap_in(request, request.sequence)
        bench.end_copies(failed=failed)
    assert (request.swapped_out, request.swapped_in) == (3, 2)


def test_waiting_for_a_long_queue_is_worse_than_computing_again() -> None:
    bench = Bench(device=40, host=40)
    first, second = bench.swapped(10), bench.swapped(3)
    bench.swaps.costs.step_ended(1.6, 16, 16)  # a tenth of a second a token
    bench.swaps.start_swap_in(first, first.sequence)
    bench.end_copies(seconds=10.0)  # a second a block
    bench.memory.reclaim_device(first.sequence, 10)
    assert bench.swaps.must_recompute(second.sequence) is None  # 3 s against 4.8 s
    bench.swaps.start_swap_in(first, first.sequence)
    assert bench.swaps.must_recompute(second.sequence) == "link_busy"  # 13 s
