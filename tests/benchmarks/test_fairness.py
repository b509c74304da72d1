"""The fairness benchmark: its traces, its measures and criteria on figures that are known, and one run of it all."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.fairness.__main__ import jobs, merged
from benchmarks.fairness.cases import ALONE, BATCH, BESIDE, CASES, CHATS, FLOODS, POLICIES, SCENES, flood
from benchmarks.fairness.measures import (
    accumulated,
    backlogged,
    gap_over_bound,
    histogram_quantile,
    largest_gap,
    ttft_quantile,
)
from benchmarks.fairness.outcome import outcome
from benchmarks.fairness.page import PAGE, RESULT, render
from benchmarks.fairness.run import figures, run_scene
from benchmarks.fairness.traces import draw, kept, path_of, trace_of
from clients.report import Outcome, TurnRecord

FLOOD = CASES["flood"]


def turn(tenant: str, due_s: float, piece_s: Sequence[float] = (), cut_off_s: float | None = None) -> TurnRecord:
    """A turn of 10 prompt tokens with an answer token a piece; one with ``cut_off_s`` did not end."""
    return TurnRecord(
        conversation=tenant,
        turn=0,
        tenant=tenant,
        priority=0,
        warmup=False,
        scheduled_s=due_s,
        sent_s=due_s,
        end_s=piece_s[-1] if cut_off_s is None else cut_off_s,
        piece_s=tuple(piece_s),
        outcome=Outcome.OK if cut_off_s is None else Outcome.DISCONNECTED,
        prompt_tokens=10 if piece_s else None,
        completion_tokens=len(piece_s) if piece_s else None,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_stored_traces_are_those_that_are_drawn(name: str):
    assert trace_of(CASES[name], 60.0) == draw(CASES[name])
    assert path_of(CASES[name]).read_text().count("\n") == 1 + draw(CASES[name]).num_turns


@pytest.mark.parametrize("name", CASES)
def test_a_trace_of_another_length_has_the_same_shape(name: str):
    short = draw(CASES[name], 10.0)
    assert short.source["seconds"] == 10.0
    assert {each.tenant for each in short.conversations} == {tenant.name for tenant in CASES[name].tenants}
    assert all(0 <= (each.arrival_s or 0.0) <= 10.0 for each in short.conversations)


def test_a_paced_tenant_never_asks_for_more_than_its_pace():
    arrivals = [each.arrival_s for each in draw(FLOOD).conversations if each.tenant == "light"]
    assert len(arrivals) == 72
    assert all(third - first > 1 / 1.2 for (first, _), (_, third) in pairwise(pairwise(arrivals)))


def test_a_flood_of_any_strength_keeps_the_light_tenants_requests():
    trace = draw(FLOOD)
    light = [each for each in trace.conversations if each.tenant == "light"]
    sizes = {}
    for scene in SCENES:
        if scene.case == "flood":
            part = kept(scene, trace).conversations
            assert [each for each in part if each.tenant == "light"] == light
            sizes[scene.name] = len(part) - len(light)
    assert sizes.pop(ALONE) == 0
    assert sizes[flood(32)] == trace.num_turns - len(light)
    assert all(sizes[flood(times)] == pytest.approx(times * sizes[flood(1)], abs=32) for times in FLOODS)


def test_a_turn_that_was_cut_off_waits_longer_than_it_waited():
    answered = [turn("a", 0, [1.0]), turn("a", 0, [2.0])]
    assert ttft_quantile(answered, 0.5) == 1.0
    assert ttft_quantile([*answered, turn("a", 0, cut_off_s=1.5)], 0.5) == 2.0
    assert ttft_quantile([*answered, turn("a", 0, cut_off_s=9.0)], 0.99) == 9.0
    assert ttft_quantile([turn("a", 1.0, cut_off_s=9.0)], 0.5) == 8.0
    assert ttft_quantile([], 0.5) is None


def test_a_tenant_is_backlogged_until_its_last_waiting_turn_has_a_token():
    turns = [turn("a", 0, [2.0, 9.0]), turn("a", 1, [3.0, 9.5]), turn("a", 5, cut_off_s=7.0)]
    assert backlogged(turns) == [(0, 3.0), (5, 7.0)]


def test_the_gap_is_the_largest_over_any_part_of_a_common_backlog():
    waiting = [turn(name, 0, cut_off_s=10.0) for name in "ab"]
    mine = [turn("a", 0, [1.0, 2.0]), turn("a", 0, [3.0])]  # 12 + 2, then 12
    yours = [turn("b", 0, [4.0, 5.0, 6.0, 7.0])]  # 12 + 2 + 2 + 2
    by_tenant = {"a": [waiting[0], *mine], "b": [waiting[1], *yours]}
    assert largest_gap(by_tenant, {"a": 1.0, "b": 1.0}) == 26
    assert largest_gap(by_tenant, {"a": 2.0, "b": 1.0}) == 18  # b's own, after a is done
    assert largest_gap({**by_tenant, "c": [turn("c", 20, [21.0])]}, {"a": 1.0, "b": 1.0}) == 26


def test_what_one_tenant_gets_while_another_wants_nothing_is_no_gap():
    by_tenant = {"a": [turn("a", 0, [1.0, 2.0, 3.0])], "b": [turn("b", 5, [6.0])]}
    assert largest_gap(by_tenant, {}) == 0


def test_accumulated_service_is_credited_when_it_is_seen():
    assert accumulated([turn("a", 0, [1.0, 2.0])], [0.5, 1.0, 5.0]) == [0, 12, 14]


def test_gauges_count_where_both_are_there():
    samples = [{}, {"fastswitch_fairness_gap": 9.0}, {"fastswitch_fairness_gap": 3.0, "fastswitch_fairness_bound": 4.0}]
    assert gap_over_bound(samples) == 0.75
    assert gap_over_bound(samples[:2]) is None


def test_a_quantile_of_a_histogram_is_linear_inside_its_bucket():
    growth = {"s_bucket{le=0.1}": 50.0, "s_bucket{le=0.2}": 100.0, "s_bucket{le=+Inf}": 100.0, "s_count": 100.0}
    assert histogram_quantile(growth, "s", 0.75) == pytest.approx(0.15)
    assert histogram_quantile({}, "s", 0.75) is None


def test_the_figures_of_a_run_are_those_of_its_records_and_metrics():
    records = [turn("a", 0, [1.0, 1.5]), turn("b", 0, [1.0]), turn("b", 1, cut_off_s=2.0)]
    steps, lost = "fastswitch_step_seconds_count", "fastswitch_num_preemptions_total{reason=rank}"
    samples = [{steps: 10.0, lost: 1.0}, {steps: 30.0, lost: 5.0}]
    found = figures(records, {"a": 1.0, "b": 1.0}, samples, 2.0)
    assert (found["tokens_per_s"], found["service_per_s"], found["preemptions_per_step"]) == (1.5, 13.0, 0.2)
    assert found["tenants"]["b"]["answered"] == 1
    assert found["tenants"]["a"]["tbt_p99_s"] == 0.5
    assert found["gap_over_bound"] is None
    assert found["service"]["a"][-1] == 14


def run_of(scene: str, policy: str = "vtc", **about: Any) -> dict[str, Any]:
    about = {"step_p99_s": 0.1, "preemptions_per_step": 0.01, "tokens_per_s": 100.0, "service_per_s": 200.0, **about}
    gaps = {"gap_over_bound": 0.5, "gap_seen_over_twice_bound": 0.6}
    return {"scene": scene, "policy": policy, "seconds": 60.0, "commit": "abc", **gaps, **about}


def light(ttft_p99_s: float, answered: int = 10) -> dict[str, Any]:
    times = {"ttft_p50_s": 0.2, "ttft_p99_s": ttft_p99_s, "tbt_p99_s": 0.1}
    return {"tenants": {"light": {"answered": answered, "requests": 10, "service_per_s": 50.0, **times}}}


GOOD = [
    run_of(ALONE, **light(0.4)),
    run_of(flood(1), "fcfs", **light(0.4)),  # overloads nothing, so fcfs is as good
    run_of(flood(1), **light(0.4)),
    run_of(flood(8), "fcfs", **light(9.0, answered=1)),
    run_of(flood(8), tokens_per_s=98.0, **light(0.5)),
]


def broken(**about: Any) -> list[dict[str, Any]]:
    return [*GOOD[:-1], {**GOOD[-1], **about}]


def test_a_light_tenant_that_keeps_what_it_has_alone_meets_every_criterion():
    found = outcome(GOOD)
    assert all(each["holds"] for each in found["criteria"])
    assert found["light_p99_over_alone"] == pytest.approx(0.5 / 0.6)
    assert (found["light_p99_vs_fcfs"], found["throughput_vs_fcfs"], found["max_gap_over_bound"]) == (18.0, 0.98, 0.6)


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("light_p99_over_alone", broken(**light(0.7))),
        ("light_p99_vs_fcfs", broken(**light(1.0))),
        ("throughput_vs_fcfs", broken(tokens_per_s=96.0)),
        ("max_gap_over_bound", broken(gap_over_bound=1.1)),
        ("preemptions_per_step", broken(preemptions_per_step=0.2)),
    ],
)
def test_each_criterion_names_the_scene_that_breaks_it(name: str, runs: list[dict[str, Any]]):
    (found,) = (each for each in outcome(runs)["criteria"] if each["name"] == name)
    assert (found["holds"], found["worst"]) == (False, flood(8))


def test_background_work_is_held_against_what_chats_leave():
    def tenant(service: float, ttft: float = 0.0) -> dict[str, float]:
        return {"service_per_s": service, "ttft_p99_s": ttft, "tbt_p99_s": 0.1}

    runs = [
        run_of(CHATS, busy_share=0.25, tenants={"chats": tenant(50, 0.4)}),
        run_of(BATCH, service_per_s=200.0, tenants={"batch": tenant(200)}),
        run_of(BESIDE, tenants={"chats": tenant(50, 0.5), "batch": tenant(120)}),
    ]
    found = outcome(runs)
    assert (found["chats_ttft_p99_rise"], found["background_fill"]) == (1.25, 0.8)
    assert [each["name"] for each in found["criteria"] if not each["holds"]] == [
        "chats_ttft_p99_rise",
        "background_fill",
    ]
    assert "background_fill" not in outcome(runs[:2])


def test_each_policy_goes_first_in_its_turn():
    order = list(jobs(list(CASES), POLICIES))
    assert len(order) == 43
    first = [next(policy for scene, policy in order if scene is each) for each in SCENES if each.policies == POLICIES]
    assert set(first) == set(POLICIES)


def test_a_new_run_takes_the_place_of_the_stored_one():
    newer = run_of(flood(1), **light(9.9))
    assert list(merged(GOOD, [newer])) == [newer if run == GOOD[2] else run for run in GOOD]


def test_the_page_shows_a_table_where_there_are_runs():
    document = {"hardware": "two cores", "figures": outcome([*GOOD, run_of("calm", **light(0.3))])}
    page = render(document)
    assert "| 8x | `fcfs` | 0.2 | 9 | 100 | 0.01 |\n| 8x | `vtc` | 0.2 | 0.5 | 98 | 0.01 |\n" in page
    assert "| `vtc` | `light` | 0.2 | 0.3 | 100 | 50 | 10 of 10 |" in page
    assert "| `throughput_vs_fcfs` | flood x8 | 0.98 | at least 0.97 | yes |" in page
    assert "- Machine: two cores\n- Commits: abc\n- 6 runs of 60 seconds\n" in page


def test_the_page_is_made_of_the_stored_result():
    stored = json.loads(RESULT.read_text()) if RESULT.exists() else None
    assert PAGE.read_text() == render(stored)


async def test_a_short_case_runs_on_the_service(tiny_model_path: Path):
    scene = replace(next(scene for scene in SCENES if scene.name == flood(2)), every={"flood": 16})
    found = await run_scene(scene, "fcfs", 3.0, str(tiny_model_path))
    tenants = found["tenants"]
    assert set(tenants) == {"light", "flood"}
    for tenant in tenants.values():
        assert not tenant["errors"]
        assert tenant["answered"] > 0
        assert tenant["ttft_p50_s"] > 0
    curves = found["service"].values()
    assert all(curve == sorted(curve) for curve in curves)
    assert sum(curve[-1] for curve in curves) == pytest.approx(3.0 * found["service_per_s"])
    assert found["step_p99_s"] > 0
