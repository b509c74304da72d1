"""Policies rank requests: each is one module with one class, listed below. Users know it by its ``name``."""

from service.core.policies.fcfs import FirstComeFirstServed
from service.core.policies.markov import Markov
from service.core.policies.policy import Policy, PolicySettings
from service.core.policies.priority import Priority
from service.core.policies.random import Random
from service.core.policies.vtc import VirtualTokenCounter

_ALL = (FirstComeFirstServed, Markov, Priority, Random, VirtualTokenCounter)

POLICIES: dict[str, type[Policy]] = {policy.name: policy for policy in _ALL}

__all__ = ["POLICIES", "Policy", "PolicySettings"]
