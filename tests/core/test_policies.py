"""Ranks."""

import random

import pytest

from service.core.commands import Submit
from service.core.policies import POLICIES
from service.core.requests import Request
from service.core.sampling import SamplingParams
from service.core.sessions import Session


def request(number: int, priority: int = 0) -> Request:
    spec = Submit(str(number), (1,), 1, SamplingParams(), frozenset(), None, priority)
    return Request(number, spec, Session(number, None), arrival_s=float(number))


def test_the_seam_finds_every_policy_by_its_name() -> None:
    assert {"fcfs", "priority"} <= POLICIES.keys()
    assert all(policy.name == name for name, policy in POLICIES.items())


def test_fcfs_is_by_arrival_whatever_the_priority() -> None:
    requests = [request(2, priority=-5), request(0, priority=9), request(1)]
    assert [r.number for r in POLICIES["fcfs"]().rank(requests, 0.0, 0)] == [0, 1, 2]


def test_priority_is_lower_first_then_by_arrival() -> None:
    requests = [request(0, 5), request(1, 0), request(2, -1), request(3, 0)]
    assert [r.number for r in POLICIES["priority"]().rank(requests, 0.0, 0)] == [2, 1, 3, 0]


@pytest.mark.parametrize("name", sorted(POLICIES))
def test_ranks_do_not_depend_on_the_order_asked(name: str) -> None:
    requests = [request(n, n % 3) for n in range(20)]
    shuffled = random.Random(1).sample(requests, len(requests))
    policy = POLICIES[name]()
    assert policy.rank(requests, 0.0, 0) == policy.rank(shuffled, 0.0, 0)
