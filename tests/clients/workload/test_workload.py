"""The generator follows its settings, and the same seed gives the same workload."""

import numpy as np
import pytest
from pydantic import ValidationError

from clients.trace import Trace, TraceConversation, TraceTurn
from clients.workload.arrivals import arrival_times
from clients.workload.distribution import draw_counts, draw_seconds
from clients.workload.generate import arrange, generate
from clients.workload.settings import ArrivalSettings, WorkloadSettings

MANY = 20_000


def rng():
    return np.random.default_rng(3)


def settings(**fields) -> WorkloadSettings:
    return WorkloadSettings(**{"conversations": 400, "turns": "uniform:1,5", "request_rate": 10.0, **fields})


def test_the_same_seed_gives_the_same_trace():
    assert generate(settings(seed=4)) == generate(settings(seed=4))
    assert generate(settings(seed=4)).conversations != generate(settings(seed=5)).conversations


def test_changing_one_quantity_leaves_the_others_as_they_are():
    lengths = [
        [turn.user_tokens for each in generate(settings(think_time=think)).conversations for turn in each.turns]
        for think in ("0", "exponential:3")
    ]
    assert lengths[0] == lengths[1]


@pytest.mark.parametrize(
    ("spec", "mean"),
    [("128", 128), ("fixed:3", 3), ("uniform:64,128", 96), ("lognormal:161,0.8", 161), ("exponential:40", 40)],
)
def test_distributions_have_the_mean_they_name(spec, mean):
    assert draw_seconds(spec, rng(), MANY).mean() == pytest.approx(mean, rel=0.03)


def test_zipf_is_bounded_and_falls_with_its_exponent():
    drawn = draw_counts("zipf:2,100", rng(), MANY)
    assert drawn.min() == 1
    assert drawn.max() <= 100
    assert (drawn == 1).sum() / (drawn == 2).sum() == pytest.approx(4, rel=0.1)


def test_a_lognormal_may_be_bounded():
    assert draw_counts("lognormal:100,2,150", rng(), MANY).max() == 150


@pytest.mark.parametrize(
    "spec", ["", "x", "uniform:1", "uniform:2,1", "normal:1,2", "fixed:-1", "fixed:nan", "zipf:1,0"]
)
def test_a_distribution_that_is_none_is_refused(spec):
    with pytest.raises(ValidationError):
        WorkloadSettings(turns=spec)


def test_the_open_loop_has_the_rate_in_turns():
    trace = generate(settings(conversations=4000))
    assert trace.num_turns / trace.conversations[-1].arrival_s == pytest.approx(10, rel=0.1)


@pytest.mark.parametrize(("burstiness", "variation"), [(1.0, 1.0), (0.25, 2.0), (16.0, 0.25)])
def test_burstiness_is_the_gamma_shape_of_the_gaps(burstiness, variation):
    gaps = np.diff(arrival_times(rng(), MANY, 5.0, burstiness))
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.05)


def test_a_ramp_goes_linearly_from_one_rate_to_the_other():
    times = arrival_times(rng(), MANY, 10.0, burstiness=100.0, ramp_to=30.0)
    counts, _ = np.histogram(times, bins=10, range=(0, times[-1]))
    rates = counts / (times[-1] / 10)
    assert rates == pytest.approx(np.linspace(11, 29, 10), rel=0.05)


def test_without_a_rate_all_begin_at_once():
    assert {each.arrival_s for each in generate(settings(request_rate=None)).conversations} == {0.0}


def test_tenants_get_their_shares_priorities_and_tiers():
    trace = generate(settings(conversations=4000, tenant=["a:weight=2,priority=1,share=3,service_tier=flex", "b"]))
    of_a = [each for each in trace.conversations if each.tenant == "a"]
    assert len(of_a) / 4000 == pytest.approx(0.75, abs=0.03)
    assert {(each.priority, each.service_tier) for each in of_a} == {(1, "flex")}
    assert trace.weights == {"a": 2.0, "b": 1.0}


def test_tenants_split_at_commas_by_a_command_line_are_joined():
    assert settings(tenant=["a:weight=2", "share=3", "b"]).tenant == ["a:weight=2,share=3", "b"]


@pytest.mark.parametrize("spec", [":weight=1", "a:mood=good", "a:weight=x", "a:share=0", "a:weight=1,weight=2"])
def test_a_tenant_that_is_none_is_refused(spec):
    with pytest.raises(ValidationError):
        settings(tenant=[spec])


def test_a_tenants_key_is_kept_secret():
    made = settings(tenant=["a:weight=2,key=secret", "b:key=secret"])
    assert "secret" not in str(generate(made))
    assert made.without_secrets["tenant"] == ["a:weight=2", "b"]


def test_users_cancel_and_vanish_as_often_as_asked():
    turns = [
        turn
        for each in generate(
            settings(conversations=4000, turns="1", cancel_rate=0.2, disconnect_rate=0.05)
        ).conversations
        for turn in each.turns
    ]
    assert sum(turn.cancel_after is not None for turn in turns) / 4000 == pytest.approx(0.2, abs=0.02)
    assert sum(turn.disconnect_after is not None for turn in turns) / 4000 == pytest.approx(0.05, abs=0.01)
    assert not any(turn.cancel_after is not None and turn.disconnect_after is not None for turn in turns)


def test_a_client_that_vanished_does_not_come_back():
    trace = generate(settings(disconnect_rate=0.5))
    for each in trace.conversations:
        assert all(turn.disconnect_after is None for turn in each.turns[:-1])


def test_slow_readers_are_as_many_as_asked():
    slow = [each.read_tokens_per_s for each in generate(settings(slow_reader_rate=0.3)).conversations]
    assert sum(speed == 2.0 for speed in slow) / 400 == pytest.approx(0.3, abs=0.08)


def test_a_closed_loop_has_users_and_no_arrivals():
    trace = generate(settings(request_rate=None, users=5))
    assert trace.users == 5
    assert {each.arrival_s for each in trace.conversations} == {None}


def test_loops_exclude_each_other():
    with pytest.raises(ValidationError):
        settings(users=5)


TWO = Trace((TraceConversation("a", 1.0, (TraceTurn(1, 1),)), TraceConversation("b", 2.0, (TraceTurn(1, 1),))))


def test_a_traces_own_arrivals_are_kept_unless_others_are_asked_for():
    assert arrange(TWO, ArrivalSettings()) == TWO
    assert arrange(TWO, ArrivalSettings(request_rate=5.0)) != TWO
    assert arrange(TWO, ArrivalSettings(users=1)).users == 1
