"""What policies rank first."""

import random
from dataclasses import replace

import numpy as np
import pytest

from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.core.policies import POLICIES
from service.core.policies.markov import BECOMES_FAVOURED, STAYS_FAVOURED
from service.core.policies.priority_trace import conversation_of
from service.core.state.owners import Session
from service.core.state.requests import Request
from tests.settings import make_policy


def request(number: int, priority: int = 0) -> Request:
    spec = Submit(str(number), (1,), 1, SamplingParams(), frozenset(), None, priority)
    return Request(number, spec, Session(number, None), arrival_s=float(number))


def test_the_seam_finds_every_policy_by_its_name() -> None:
    assert {"fcfs", "priority"} <= POLICIES.keys()
    assert all(policy.name == name for name, policy in POLICIES.items())


def test_fcfs_is_by_arrival_whatever_the_priority() -> None:
    requests = [request(2, priority=-5), request(0, priority=9), request(1)]
    assert [r.number for r in make_policy("fcfs").rank(requests, 0.0, 0)] == [0, 1, 2]


def test_priority_is_lower_first_then_by_arrival() -> None:
    requests = [request(0, 5), request(1, 0), request(2, -1), request(3, 0)]
    assert [r.number for r in make_policy("priority").rank(requests, 0.0, 0)] == [2, 1, 3, 0]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_ranks_do_not_depend_on_the_order_asked(name: str) -> None:
    requests = [request(n, n % 3) for n in range(20)]
    shuffled = random.Random(1).sample(requests, len(requests))
    policy = make_policy(name)
    assert policy.rank(requests, 0.0, 0) == policy.rank(shuffled, 0.0, 0)


TRACES = ["random", "markov"]


def conversation(number: int) -> Request:
    spec = Submit(str(number), (1,), 1, SamplingParams(), frozenset(), ("t",), user=f"user {number}")
    return Request(number, spec, Session(number, None), arrival_s=float(number))


def order(name: str, requests: list[Request], step: int, seed: int = 0, every: int = 10) -> list[int]:
    return [r.number for r in make_policy(name, seed=seed, update_every=every).rank(requests, 0.0, step)]


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_its_seeds(name: str) -> None:
    requests = [conversation(n) for n in range(30)]
    assert order(name, requests, 40, seed=1) == order(name, requests, 40, seed=1)
    assert order(name, requests, 40, seed=1) != order(name, requests, 40, seed=2)


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_is_the_same_after_a_restart_of_the_server(name: str) -> None:
    """Sessions have other numbers then, and clients other addresses; the names of their users stay."""

    def started(first: int) -> list[int]:
        requests = [conversation(n) for n in range(30)]
        for each in requests:
            each.session.sequence += first
        return order(name, requests, 40)

    assert started(0) == started(1000)


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_changes_at_its_updates_and_only_there(name: str) -> None:
    requests = [conversation(n) for n in range(30)]
    policy = make_policy(name, update_every=10)
    orders = [policy.rank(requests, 0.0, step) for step in range(40)]
    assert [step for step in range(1, 40) if orders[step] != orders[step - 1]] == [10, 20, 30]


@pytest.mark.parametrize("name", TRACES)
def test_the_rank_of_a_request_does_not_depend_on_other_requests_now_or_earlier(name: str) -> None:
    early, late = [conversation(n) for n in range(20)], [conversation(n) for n in range(20, 40)]
    watched = make_policy(name, update_every=10)
    for step in range(95):
        watched.rank(early[: 1 + step % 20], 0.0, step)
    everyone = [r.number for r in watched.rank([*late, *early], 0.0, 95)]
    assert everyone == order(name, [*early, *late], 95)
    assert [number for number in everyone if number < 20] == order(name, early, 95)


@pytest.mark.parametrize("name", TRACES)
def test_a_conversation_keeps_its_draw_over_its_turns(name: str) -> None:
    others = [conversation(n) for n in range(1, 20)]
    first, later = conversation(0), replace(conversation(0), number=99)
    later.spec = replace(later.spec, request_id="another turn")
    place = order(name, [*others, first], 35).index(0)
    assert order(name, [*others, later], 35).index(99) == place


def test_random_ranks_are_even_and_forget_the_last() -> None:
    requests = [conversation(n) for n in range(200)]
    policy = make_policy("random", seed=3, update_every=1)
    ranks = np.array([[r.number for r in policy.rank(requests, 0.0, step)] for step in range(100)]).argsort()
    assert abs(ranks.mean(axis=0) - 99.5).max() < 30  # 5 standard errors of a mean of 100
    assert abs(np.corrcoef(ranks[:-1].ravel(), ranks[1:].ravel())[0, 1]) < 0.03


def test_markov_keeps_and_makes_favourites_with_the_stated_probabilities() -> None:
    requests = [conversation(n) for n in range(300)]
    policy = make_policy("markov", seed=3, update_every=1)
    favoured = []
    for step in range(100):
        ranked = policy.rank(requests, 0.0, step)
        favoured.append([policy._chains[conversation_of(request)].favoured for request in requests])
        states = [policy._chains[conversation_of(request)].favoured for request in ranked]
        assert states == sorted(states, reverse=True)
    before, after = np.array(favoured[:-1]), np.array(favoured[1:])
    assert after[before].mean() == pytest.approx(STAYS_FAVOURED, abs=0.015)
    assert after[~before].mean() == pytest.approx(BECOMES_FAVOURED, abs=0.015)
    assert before.mean() == pytest.approx(0.5, abs=0.05)


def test_markov_keeps_the_order_of_conversations_that_do_not_change() -> None:
    requests = [conversation(n) for n in range(50)]
    policy = make_policy("markov", seed=3, update_every=1)
    before = policy.rank(requests, 0.0, 0)
    states = {r: policy._chains[conversation_of(r)].favoured for r in requests}
    after = policy.rank(requests, 0.0, 1)
    stayed = {r for r in requests if policy._chains[conversation_of(r)].favoured is states[r]}
    assert [r for r in before if r in stayed] == [r for r in after if r in stayed]
