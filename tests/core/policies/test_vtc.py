"""Fair shares of service: between tenants, inside one, in classes; and what that promises."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.messages.commands import Submit
from service.core.messages.events import Preempted, Served, Started
from service.core.policies.vtc import VirtualTokenCounter
from service.core.state.requests import State
from service.simulation.driver import Simulation
from tests.core.conftest import _simulation, _submit

FAIR = {"hysteresis": 16.0, "ageing_s": 0.0}


def turn(name: str, tenant: str, prompt: int = 20, answer: int = 20, **fields: object) -> Submit:
    return replace(_submit(name, prompt, max_tokens=answer), tenant=tenant, **fields)  # type: ignore[arg-type]


def served(sim: Simulation) -> Counter[str]:
    """Return each tenant's service, from what core tells."""
    total: Counter[str] = Counter()
    for event in sim.log:
        if isinstance(event, Served):
            total.update(dict(event.tenants))
    return total


def keep_waiting(sim: Simulation, tenants: dict[str, float], steps: int, **fields: int) -> None:
    """Run with three requests of every tenant more than there is room for."""
    names = iter(range(10**6))
    for _ in range(steps):
        waiting = Counter(r.spec.tenant for r in sim.core._ledger.live.values() if r.state is State.WAITING)
        for tenant, weight in tenants.items():
            for _ in range(3 - waiting[tenant]):
                sim.submit(turn(f"{tenant}{next(names)}", tenant, weight=weight, **fields))
        sim.step()
        sim.core.check()


def started(sim: Simulation) -> list[str]:
    return [event.request_id for event in sim.log if isinstance(event, Started)]


def test_with_one_tenant_it_is_first_come_first_served() -> None:
    orders = []
    for policy in ("vtc", "fcfs"):
        sim = _simulation(policy, device_blocks=20, max_num_seqs=3)
        for number in range(12):
            sim.submit(_submit(f"r{number}", 10 + 17 * number % 60, max_tokens=5 + number % 7))
            sim.step()
        sim.run()
        orders.append((started(sim), [type(event) for event in sim.log]))
    assert orders[0] == orders[1]


@pytest.mark.parametrize(("policy", "is_fair"), [("vtc", True), ("fcfs", False), ("priority", False)])
def test_a_light_tenant_is_served_at_once_beside_a_flood(policy: str, is_fair: bool) -> None:
    sim = _simulation(policy, max_num_seqs=4)
    for number in range(50):
        sim.submit(turn(f"flood{number}", "flood", answer=100))
    for _ in range(20):
        sim.step()
    sim.submit(turn("light", "light"))
    sim.step()
    sim.step()
    assert ("light" in started(sim)) is is_fair


def test_backlogged_tenants_get_service_by_their_weights() -> None:
    sim = _simulation("vtc", max_num_seqs=5, max_num_batched_tokens=64)
    keep_waiting(sim, {"one": 1.0, "three": 3.0, "half": 0.5}, 1500)
    total = served(sim)
    assert total["three"] / total["one"] == pytest.approx(3, rel=0.1)
    assert total["half"] / total["one"] == pytest.approx(0.5, rel=0.1)


def test_hysteresis_keeps_tenants_that_are_about_equal_from_preempting_each_other() -> None:
    counts = {}
    for hysteresis in (0.0, 64.0):
        sim = _simulation("vtc", policy_settings={"hysteresis": hysteresis}, max_num_seqs=5, max_num_batched_tokens=64)
        keep_waiting(sim, {"a": 1.0, "b": 3.0, "c": 1.0}, 600)
        counts[hysteresis] = sum(isinstance(event, Preempted) for event in sim.log)
    assert counts[64.0] <= 0.1 * 600
    assert counts[0.0] > 4 * counts[64.0]


def test_short_requests_get_as_much_service_as_long_ones() -> None:
    sim = _simulation("vtc", device_blocks=200, max_num_seqs=6, max_num_batched_tokens=64)
    for number in range(400):
        sim.submit(turn(f"short{number}", "short", prompt=5, answer=5))
    for number in range(40):
        sim.submit(turn(f"long{number}", "long", prompt=200, answer=60))
    for _ in range(400):
        sim.step()
    total = served(sim)
    assert total["short"] == pytest.approx(total["long"], rel=0.15)


def test_nobody_saves_up_service_while_away() -> None:
    """A tenant that comes back shares from now on; it is not owed what others got meanwhile."""
    sim = _simulation("vtc", max_num_seqs=4, max_num_batched_tokens=64)
    keep_waiting(sim, {"busy": 1.0}, 400)
    before = served(sim)
    assert before["busy"] > 2000
    keep_waiting(sim, {"busy": 1.0, "back": 1.0}, 300)
    total = served(sim)
    assert total["back"] == pytest.approx(total["busy"] - before["busy"], rel=0.15)


def test_users_of_one_tenant_share_what_it_gets() -> None:
    sim = _simulation("vtc", max_num_seqs=4)
    for number in range(60):
        sim.submit(turn(f"greedy{number}", "t", user="greedy"))
    sim.step()
    for number in range(4):
        sim.submit(turn(f"modest{number}", "t", user="modest"))
        sim.submit(turn(f"other{number}", "another tenant"))
    sim.run()
    order = started(sim)
    assert max(order.index(f"modest{number}") for number in range(4)) < 20
    assert not [event for event in sim.log if isinstance(event, Preempted) and event.request_id.startswith("modest")]


def test_better_priorities_go_first_whoever_asks() -> None:
    sim = _simulation("vtc", max_num_seqs=2)
    for number in range(6):
        sim.submit(turn(f"plain{number}", "light"))
    keep = [turn(f"vip{number}", "heavy", priority=-1) for number in range(6)]
    sim.step()
    for submit in keep:
        sim.submit(submit)
    sim.run()
    order = started(sim)
    assert order[2:8] == [f"vip{number}" for number in range(6)]


def test_waiting_counts_as_priority_in_time() -> None:
    sim = _simulation("vtc", policy_settings={"ageing_s": 10.0}, max_num_seqs=1)
    sim.submit(turn("vip", "heavy", answer=3, priority=0))
    sim.submit(turn("plain", "light", priority=2))
    for number in range(30):
        sim.submit(turn(f"vip{number}", "heavy", answer=3, priority=0))
    while "plain" not in started(sim):
        sim.step()
    assert 20 <= sim.now <= 30


class TestBackground:
    """Work that gets only what all other work leaves."""

    @pytest.mark.parametrize("policy", ["vtc", "fcfs", "priority"])
    def test_it_fills_an_idle_machine_and_gives_way_at_once(self, policy: str) -> None:
        sim = _simulation(policy, max_num_seqs=4)
        for number in range(8):
            sim.submit(turn(f"batch{number}", "batch", answer=60, background=True))
        for _ in range(3):
            assert len(sim.step().rows) == 4  # type: ignore[union-attr]
        for number in range(4):
            sim.submit(turn(f"chat{number}", "chat", answer=10))
        for _ in range(10):
            assert {row.request_id[:4] for row in sim.step().rows} == {"chat"}  # type: ignore[union-attr]
        sim.run()
        assert len(sim.ended) == 12

    def test_its_prefill_takes_no_longer_than_decodes(self) -> None:
        """A newcomer waits for the step under way, so that is short: here 100 prefilled tokens take as long as it."""
        sim = _simulation("vtc", max_num_seqs=4, max_num_batched_tokens=256)
        sim.core._swaps.costs.step_ended(1.0, 4, 0)
        sim.core._swaps.costs.step_ended(1.0, 100, 100)
        sim.submit(turn("batch", "batch", prompt=600, background=True))
        first = sim.step()
        assert first is not None
        assert first.num_tokens == 100
        sim.submit(turn("chat", "chat", prompt=600))
        second = sim.step()
        assert second is not None
        assert second.num_tokens == 256

    def test_no_step_is_shared_with_it(self) -> None:
        sim = _simulation("vtc", max_num_seqs=4)
        sim.submit(turn("batch", "batch", answer=60, background=True))
        sim.submit(turn("chat", "chat", answer=10))
        kinds = [{row.request_id for row in sim.step().rows} for _ in range(20)]  # type: ignore[union-attr]
        assert kinds == [{"chat"}] * 10 + [{"batch"}] * 10
        assert not [event for event in sim.log if isinstance(event, Preempted)]


def test_memory_stays_bounded_whatever_names_callers_invent() -> None:
    sim = _simulation("vtc", max_num_seqs=4)
    for number in range(3000):
        sim.submit(turn(f"r{number}", f"tenant {number}", prompt=3, answer=2, user=f"user {number}"))
        sim.step()
    sim.run()
    sim.submit(turn("last", "last"))
    sim.step()
    policy = sim.core._policy
    assert isinstance(policy, VirtualTokenCounter)
    assert sum(map(len, policy._classes.values())) < 20


def test_a_tenant_that_does_not_fit_is_left_out_of_the_promise_and_that_is_reported() -> None:
    sim = _simulation("vtc", policy_settings=FAIR, device_blocks=40, max_num_seqs=4, blocked_timeout_s=1e9)
    sim.submit(turn("top", "first", prompt=400, answer=200, priority=-1))
    sim.step()
    sim.submit(turn("large", "large", prompt=400, answer=4))
    keep_waiting(sim, {"small": 1.0, "other": 1.0}, 100, prompt=10, answer=10)
    assert "large" not in started(sim)
    assert sim.core.gauges().fairness_excluded_s > 50


Arrival = tuple[int, int, int, int]
arrivals = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(1, 30), st.integers(0, 4)), min_size=20, max_size=80
)
WEIGHTS = {"tenant0": 1.0, "tenant1": 3.0, "tenant2": 1.0, "tenant3": 0.5}


def drive(sim: Simulation, plan: list[Arrival]) -> Iterator[tuple[float, float]]:
    """Yield gap and bound after every step."""
    for number, (tenant, prompt, answer, pause) in enumerate(plan):
        name = f"tenant{tenant}"
        sim.submit(turn(f"r{number}", name, prompt, answer, weight=WEIGHTS[name]))
        for _ in range(pause):
            sim.step()
            gauges = sim.core.gauges()
            yield gauges.fairness_gap, gauges.fairness_bound
    while sim.step() is not None:
        sim.core.check()
        gauges = sim.core.gauges()
        yield gauges.fairness_gap, gauges.fairness_bound


@given(arrivals, st.sampled_from([0, 10, 60]), st.integers(0, 3), st.sampled_from([12, 60]))
def test_the_gap_never_exceeds_its_bound(plan: list[Arrival], host_blocks: int, quantum: int, blocks: int) -> None:
    sim = _simulation("vtc", policy_settings=FAIR, device_blocks=blocks, host_blocks=host_blocks, max_num_seqs=3)
    for gap, bound in drive(sim, plan):
        assert gap <= bound


def test_the_bound_is_one_that_first_come_first_served_breaks() -> None:
    """The same traffic, with the gap of those backlogged counted from outside."""
    gaps = {}
    for policy in ("vtc", "fcfs"):
        sim = _simulation(policy, policy_settings={"hysteresis": 64.0}, max_num_seqs=4, max_num_batched_tokens=32)
        for number in range(300):
            sim.submit(turn(f"flood{number}", "flood", answer=40))
        for number in range(100):
            sim.submit(turn(f"light{number}", "light", answer=40))
        for _ in range(1500):
            sim.step()
        total = served(sim)
        gaps[policy] = total["flood"] - total["light"]
        bound = sim.core.gauges().fairness_bound
        if policy == "vtc":
            allowed = bound
    assert gaps["vtc"] <= allowed < gaps["fcfs"]
