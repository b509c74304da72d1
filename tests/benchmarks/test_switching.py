"""The comparison of presets, on runs whose every figure is known."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.switching import copies
from benchmarks.switching.cells import render_cells
from benchmarks.switching.comparison import differences
from benchmarks.switching.matrix import CAP, COPYING, NEVER, RECOMPUTE, VARIANTS, Cell, Job, Schedule, jobs
from benchmarks.switching.outcome import outcome
from benchmarks.switching.page import render, write_pages
from benchmarks.switching.plot import draw
from benchmarks.switching.session import RunResult
from benchmarks.switching.workload import capacity_of
from clients.report import Outcome, Run, TurnRecord
from clients.reporting.slo import Slo
from service.config import DEFAULT_PRESET

ROOT = Path(__file__).parents[2]
SLO = Slo(ttft_s=1.0)
RANDOM = Schedule("random", 10)


def run(ttft_s: Sequence[float]) -> Run:
    """A conversation of one turn for each, a second apart, whose answers are three pieces 0.1 s apart."""
    records = [
        TurnRecord(
            conversation=f"c{number}",
            turn=0,
            tenant="",
            priority=0,
            warmup=False,
            scheduled_s=float(number),
            sent_s=float(number),
            end_s=number + ttft + 0.2,
            piece_s=tuple(number + ttft + gap for gap in (0.0, 0.1, 0.2)),
            outcome=Outcome.OK,
            completion_tokens=3,
            preemptions=number % 2,
        )
        for number, ttft in enumerate(ttft_s)
    ]
    return Run("http://host", "sse", "m", "2025-01-01T00:00:00Z", 100.0, {}, tuple(records))


def result(ttft_s: Sequence[float], bytes_out: float = 0.0, others: float = 0.05, device_s: float = 9.0) -> RunResult:
    metrics = {
        "fastswitch_device_seconds_sum": device_s,
        "fastswitch_computed_tokens_total{phase=prefill}": 1000.0,
        "fastswitch_computed_tokens_total{phase=decode}": 500.0,
        "fastswitch_step_seconds_sum": 10.0,
        "fastswitch_step_seconds_count": 100.0,
        "fastswitch_swap_bytes_total{direction=out}": bytes_out,
        "fastswitch_swap_bytes_total{direction=in}": 0.0,
        "fastswitch_swap_copies_total{direction=out}": 2.0,
        "fastswitch_swap_copies_total{direction=in}": 0.0,
    }
    return RunResult([], "abc", "2025-01-01T00:00:00+00:00", 0.5, others, 20.0, metrics, run(ttft_s))


def job(variant: str, seed: int = 1) -> Job:
    return Job(Cell(RANDOM, None, seed), variant)


FAST, SLOW = [0.1 + 0.01 * number for number in range(20)], [1.1 + 0.01 * number for number in range(20)]


def test_a_variant_twice_as_slow_is_so_in_every_resample():
    slow = [2 * ttft for ttft in FAST]
    found = {one.figure: one for one in differences({1: run(slow)}, {1: run(FAST)}, SLO)}
    for quantile in (50, 95, 99):
        each = found[f"ttft_p{quantile}_s"]
        assert each.value == pytest.approx(2.0)
        assert each.interval is not None
        assert (each.interval.low, each.interval.high) == pytest.approx((2.0, 2.0))
    assert found["tbt_p50_s"].value == pytest.approx(1.0)


def test_only_seeds_that_both_played_are_compared():
    variant, default = {1: run(FAST), 2: run(SLOW)}, {1: run(FAST), 3: run(SLOW)}
    assert {one.value for one in differences(variant, default, SLO)} == {1.0, 0.0}


def test_other_conversations_are_not_compared():
    with pytest.raises(ValueError, match="conversations"):
        differences({1: run(FAST)}, {1: run(FAST[:5])}, SLO)


def test_less_goodput_than_another_variant_is_reported():
    found = outcome({job(DEFAULT_PRESET): result(SLOW), job("groups"): result(FAST)}, SLO, 1024)
    (below,) = found["goodput_below"]
    assert below["variant"] == "groups"


def test_more_goodput_than_another_variant_is_no_fault():
    found = outcome({job(DEFAULT_PRESET): result(FAST), job("groups"): result(SLOW)}, SLO, 1024)
    assert found["goodput_below"] == []


@pytest.mark.parametrize("busy", ["groups", DEFAULT_PRESET])
def test_goodput_is_not_judged_while_others_used_the_machine(busy):
    others = {name: 0.5 if name == busy else 0.0 for name in ("groups", DEFAULT_PRESET)}
    results = {
        job(DEFAULT_PRESET): result(SLOW, others=others[DEFAULT_PRESET]),
        job("groups"): result(FAST, others=others["groups"]),
    }
    found = outcome(results, SLO, 1024)
    assert found["goodput_below"] == []
    assert [each["disturbed"] for each in found["comparisons"]] == [True]


def test_what_reuse_saves_is_counted_where_both_were_run():
    results = {
        job("groups"): result(FAST, 1000.0),
        job("groups+reuse"): result(FAST, 400.0),
        job("groups", seed=2): result(FAST, 1e9),
    }
    (saved,) = outcome(results, SLO, 1024)["swap_out_with_reuse"]
    assert (saved["share"], saved["seeds"]) == (0.4, 1)


def test_figures_of_the_server_are_per_run():
    (found,) = outcome({job(CAP): result(FAST, 8192.0)}, SLO, 1024)["runs"]
    figures = found["figures"]
    assert (figures["blocks_per_copy_out"], figures["blocks_per_copy_in"]) == (4.0, 0.0)
    assert (figures["preempted_share"], figures["step_ms"], figures["token_ms"]) == (0.5, 100.0, 6.0)


def test_each_variant_goes_first_in_its_turn():
    presets = VARIANTS[:-1]
    order = list(jobs([RANDOM], [None], range(len(presets)), VARIANTS))
    cells = [order[start : start + len(presets)] for start in range(0, len(order), len(presets))]
    assert [cell[0].variant for cell in cells] == list(presets)
    assert all({job.variant for job in cell} == set(presets) for cell in cells)
    assert all(len({job.cell for job in cell}) == 1 for cell in cells)


def test_the_fixed_cap_is_run_once_and_compared_everywhere():
    order = list(jobs([RANDOM, Schedule.parse(NEVER)], [None], [1], VARIANTS))
    assert [str(job.cell.schedule) for job in order if job.variant == CAP] == [NEVER]
    never = Cell(Schedule.parse(NEVER), None, 1)
    results = {job(DEFAULT_PRESET): result(SLOW), Job(never, CAP): result(FAST)}
    found = outcome(results, SLO, 1024)
    assert [(each["schedule"], each["variant"]) for each in found["comparisons"]] == [("random:10", CAP)]
    assert render_cells(found).count(f"| `{CAP}` |") == 3  # a row for each schedule, and one where it is better


def test_recomputation_is_run_without_a_link_and_compared_on_each():
    order = list(jobs([RANDOM], [None, "pcie4"], [1], VARIANTS))
    assert [job.cell.link for job in order if job.variant == RECOMPUTE] == [None]
    linked = Job(Cell(RANDOM, "pcie4", 1), DEFAULT_PRESET)
    results = {linked: result(SLOW), job(RECOMPUTE): result(FAST), job(DEFAULT_PRESET): result(FAST)}
    compared = outcome(results, SLO, 1024)["comparisons"]
    assert [(each["link"], each["variant"]) for each in compared] == [("pcie4", RECOMPUTE), (None, RECOMPUTE)]
    assert [each["default_worse_in_goodput"] for each in compared] == [True, False]


def test_over_all_cells_the_chance_of_runs_is_in_the_interval():
    slower = [*FAST[:10], *SLOW[10:]]
    results = {}
    for seed in range(8):
        ours, theirs = (FAST, slower) if seed % 2 else (slower, FAST)
        results |= {job(DEFAULT_PRESET, seed): result(ours), job("groups", seed): result(theirs)}
    (found,) = outcome(results, SLO, 1024)["goodput_over_all"]
    assert (found["variant"], found["cells"]) == ("groups", 8)
    assert found["difference"] == pytest.approx(0)
    assert found["interval"]["low"] < 0 < found["interval"]["high"]


def test_the_machines_speed_is_separated_from_seeds_and_schedules():
    results = {}
    for seed, within in ((1, 20), (2, 10)):  # turns within the objective when the machine is fast
        for variant in COPYING:
            slow = (seed == 1) == (variant == DEFAULT_PRESET)
            kept = within // 2 if slow else within
            taken = result([*FAST[:kept], *SLOW[kept:]], device_s=seed * (6.0 if slow else 3.0))
            results[job(variant, seed)] = taken
    (found,) = outcome(results, SLO, 1024)["goodput_by_speed"]
    assert (found["updates"], found["runs"]) == (True, 2 * len(COPYING))
    assert found["correlation"] < -0.9
    assert found["per_percent"] < 0


def test_the_appendix_says_how_far_runs_of_the_same_work_differ():
    never = Cell(Schedule.parse(NEVER), None, 1)
    slower = [*FAST[:10], *SLOW[10:]]
    results = {Job(never, DEFAULT_PRESET): result(FAST), Job(never, "groups"): result(slower)}
    found = outcome(results, SLO, 1024)
    goodput = [each["figures"]["goodput_per_s"] for each in found["runs"]]
    spread = 2 * (max(goodput) - min(goodput)) / sum(goodput)
    assert f"differs by {spread:.0%} to {spread:.0%} within a seed" in render_cells(found)


def test_capacity_is_measured_under_full_load():
    crowded = [0.1] * 10 + [50.1] * 10
    assert capacity_of(run(crowded)) == pytest.approx(10 / 9.3)


def test_the_fixed_cap_serves_in_order_whatever_the_schedule():
    flags = job(CAP).server_flags(8)
    assert flags == ["--preset", DEFAULT_PRESET, "--policy", "fcfs", "--max-num-seqs", "8"]


@pytest.mark.parametrize("text", ["random", "random:0", "fcfs:10", "random:x"])
def test_an_invalid_schedule_is_refused(text):
    with pytest.raises(ValueError, match=r"expected random|invalid literal"):
        Schedule.parse(text)


def document_of(results: dict[Job, RunResult]) -> dict[str, Any]:
    figures = {"conversations": 20, "capacity": [], **outcome(results, SLO, 1024)}
    return {"hardware": "", "command": "", "figures": figures}


def test_the_page_says_what_recomputing_costs_and_what_reuse_saves():
    results = {
        job(DEFAULT_PRESET): result(FAST, 400.0),
        job(RECOMPUTE): result([*FAST[:5], *SLOW[5:]]),
        job("groups"): result(FAST, 1000.0),
        job("groups+reuse"): result(FAST, 400.0),
    }
    document = document_of(results)
    page = render(document).replace("\n", " ")
    kept, lost = (each["figures"]["goodput_per_s"] for each in document["figures"]["runs"][:2])
    cost = f"{100 * (1 - lost / kept):.0f} %"
    assert f"costs {cost} of the goodput on average, and {cost} at worst (`random:10`)" in page
    assert "saves 60 to 60 % of what is copied out" in page
    assert "noise: in 0 of 3 comparisons" in page


def test_the_page_claims_nothing_of_presets_that_were_not_run():
    page = render(document_of({job("groups"): result(FAST)}))
    assert "Dropping KV" not in page
    assert "cannot be told apart" not in page


def test_presets_whose_goodput_differs_over_all_cells_are_named():
    results = {}
    for seed in range(8):
        results |= {job(DEFAULT_PRESET, seed): result(SLOW), job("groups", seed): result(FAST)}
    page = render(document_of(results))
    assert "Over all cells `groups` differs in goodput by +" in page
    assert "cannot be told apart" not in page


def test_the_plot_names_every_preset():
    drawn = draw(document_of({job("groups"): result(FAST)})["figures"]["runs"])
    assert all(f">{variant}<" in drawn for variant in VARIANTS)


def test_the_pages_are_made_of_the_stored_result(tmp_path: Path):
    write_pages(json.loads((ROOT / "benchmarks/results/switch.json").read_text()), tmp_path)
    for name in ("switching.md", "switching-cells.md"):
        assert (tmp_path / name).read_text() == (ROOT / "docs" / name).read_text()
    assert (ROOT / "docs/switching.svg").exists()  # its bytes depend on Matplotlib's version


def test_the_copies_of_a_run_over_core_alone_are_counted_by_both_pools():
    trace = copies.draw_trace(seed=1, conversations=8, scale=1)
    sim, tickets = copies.play(trace, "groups+reuse+async", every=5)
    assert len(sim.ended) == trace.num_turns
    number, blocks, a_ticket, a_piece, on_device, on_host = (
        float(cell.replace(",", "")) for cell in copies.row(tickets)
    )
    assert number == len(tickets) > 0
    assert blocks >= a_ticket >= min(on_device, on_host) >= a_piece >= 1
