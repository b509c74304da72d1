"""The rules above any policy: the quantum, requests that are swapped in, promotion; and what counts as an update."""

from collections.abc import Iterator

import pytest

from service.core.admission import Room
from service.core.policies.ranking import Patience, Ranking
from service.core.state.requests import Request
from tests.core.bench import Bench
from tests.settings import make_policy


@pytest.fixture
def bench() -> Bench:
    return Bench()


def fcfs(quantum: int = 0, promote_after: int = 99) -> Ranking:
    return Ranking(make_policy("fcfs"), Patience(quantum, promote_after))


def order(ranking: Ranking, bench: Bench) -> list[Request]:
    return list(ranking.walk(bench.ledger.holders, Room(0, 0, ()), 0.0, 0))


def test_without_patience_the_policy_decides(bench: Bench) -> None:
    first, second = bench.preempted(1), bench.running(1)
    assert order(fcfs(), bench) == [first, second]


def test_a_request_that_has_just_got_a_slot_goes_first_for_a_quantum(bench: Bench) -> None:
    first, running = bench.preempted(1), bench.running(1)
    running.steps_in_slot = 2
    assert order(fcfs(quantum=3), bench) == [running, first]
    running.steps_in_slot = 3
    assert order(fcfs(quantum=3), bench) == [first, running]


def test_a_quantum_ends_with_the_place(bench: Bench) -> None:
    first, second = bench.preempted(1), bench.preempted(1)
    second.steps_in_slot = 1
    assert order(fcfs(quantum=3), bench) == [first, second]


def test_a_request_that_is_swapped_in_keeps_its_claim(bench: Bench) -> None:
    first, swapping_in = bench.preempted(1), bench.swapped(1)
    bench.swaps.start_swap_in(swapping_in, swapping_in.sequence)
    assert order(fcfs(quantum=3), bench) == [swapping_in, first]
    bench.end_copies()
    assert order(fcfs(quantum=3), bench) == [swapping_in, first]
    assert order(fcfs(quantum=0), bench) == [first, swapping_in]


def test_the_promoted_go_before_all_but_those_in_their_quantum(bench: Bench) -> None:
    first, promoted, fresh = bench.preempted(1), bench.preempted(1), bench.running(1)
    promoted.preemptions_unrewarded = 2
    assert order(fcfs(quantum=3, promote_after=2), bench) == [fresh, promoted, first]


def test_promotion_ends_after_a_long_quantum(bench: Bench) -> None:
    ranking = fcfs(quantum=2, promote_after=2)
    first, promoted = bench.preempted(1), bench.running(1)
    promoted.preemptions_unrewarded = 2
    promoted.steps_in_slot = Patience(2, promote_after=4).long_quantum - 1
    assert order(ranking, bench) == [promoted, first]
    promoted.steps_in_slot += 1
    assert order(ranking, bench) == [first, promoted]
    assert promoted.preemptions_unrewarded == 0


def test_the_policy_orders_each_class(bench: Bench) -> None:
    requests = [bench.running(1) for _ in range(3)] + [bench.preempted(1) for _ in range(3)]
    for request in requests[1:3]:
        request.steps_in_slot = 9
    for request in requests[3:5]:
        request.preemptions_unrewarded = 5
    ranked = order(fcfs(quantum=3, promote_after=5), bench)
    assert ranked == [requests[number] for number in (0, 3, 4, 1, 2, 5)]


class ByList:
    """Ranks as a test says."""

    name = "list"
    promotes = True

    def __init__(self) -> None:
        self.ranks: list[Request] = []

    def rank(self, holders: object, now: float, step: int) -> list[Request]:
        return self.ranks

    def walk(self, first: object, rest: list[Request], room: Room) -> Iterator[Request]:
        return iter(rest)


def test_only_a_new_order_of_requests_that_stayed_is_an_update(bench: Bench) -> None:
    a, b, c, d = (bench.waiting(1) for _ in range(4))
    policy = ByList()
    ranking = Ranking(policy, Patience(4, promote_after=4))
    counts = []
    for policy.ranks in ([a, b], [c, a, b], [c, b, a], [c, b, a], [c, a], [a, d, c], [a, d, c], [b]):
        list(ranking.walk([], Room(0, 0, ()), 0.0, 0))
        counts.append(ranking.updates)
    assert counts == [0, 0, 1, 1, 1, 2, 2, 2]
