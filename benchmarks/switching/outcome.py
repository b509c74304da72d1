"""Collect all runs into one document: benchmarks/results/switch.json."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.switching.comparison import GOODPUT, SEED, Difference, differences
from benchmarks.switching.figures import figures_of
from benchmarks.switching.matrix import COPYING, NEVER, VARIANTS, Cell, Job, Schedule, run_of
from benchmarks.switching.session import RunResult
from clients.report import Run
from clients.reporting.compare.bootstrap import draws, interval
from clients.reporting.slo import Slo, format_slo
from service.config import DEFAULT_PRESET

# Above this share of the machine used by other processes during either of two runs, they may cause the difference.
QUIET = 0.1

Condition = tuple[str | None, str]  # link and schedule
Results = Mapping[Job, RunResult]


def outcome(results: Results, slo: Slo, block_bytes: int) -> dict[str, Any]:
    """Return the figures of each run, the comparisons by condition, and what follows from them."""
    runs = [_run(job, result, slo, block_bytes) for job, result in results.items()]
    comparisons = [
        {**_comparison(condition, variant, found), **_disturbance(results, condition, variant, found[0])}
        for condition, variant, found in _compared(results, slo)
    ]
    others = [result.others_cpu_share for result in results.values()]
    return {
        "slo": format_slo(slo),
        "block_bytes": block_bytes,
        "commits": sorted({result.commit for result in results.values()}),
        "others_cpu_share": [min(others), max(others)],
        "runs_wall_s": sum(result.wall_s for result in results.values()),
        "goodput_below": [each for each in comparisons if each["default_worse_in_goodput"] and not each["disturbed"]],
        "goodput_over_all": _over_all(runs),
        "goodput_by_speed": _by_speed(runs),
        "swap_out_with_reuse": _with_reuse(runs),
        "comparisons": comparisons,
        "runs": runs,
    }


def _run(job: Job, result: RunResult, slo: Slo, block_bytes: int) -> dict[str, Any]:
    return {
        "link": job.cell.link,
        "schedule": str(job.cell.schedule),
        "seed": job.cell.seed,
        "variant": job.variant,
        "flags": result.flags,
        "commit": result.commit,
        "date": result.date,
        "load_average": result.load_average,
        "wall_s": result.wall_s,
        "figures": figures_of(result, slo, block_bytes),
    }


def _compared(results: Results, slo: Slo) -> list[tuple[Condition, str, tuple[list[int], list[Difference]]]]:
    """Compare each variant with the default preset, where both have a seed in common."""
    compared = []
    for condition in dict.fromkeys((job.cell.link, str(job.cell.schedule)) for job in results):
        default = _runs(results, condition, DEFAULT_PRESET)
        for variant in VARIANTS:
            runs = _runs(results, condition, variant)
            seeds = sorted(runs.keys() & default.keys())
            if variant != DEFAULT_PRESET and seeds:
                compared.append((condition, variant, (seeds, differences(runs, default, slo))))
    return compared


def _runs(results: Results, condition: Condition, variant: str) -> dict[int, Run]:
    """Return the runs of a variant under a condition, by seed."""
    seeds = {job.cell.seed for job in results}
    wanted = {seed: _job(condition, variant, seed) for seed in sorted(seeds)}
    return {seed: results[job].run for seed, job in wanted.items() if job in results}


def _job(condition: Condition, variant: str, seed: int) -> Job:
    return run_of(Job(Cell(Schedule.parse(condition[1]), condition[0], seed), variant))


def _comparison(condition: Condition, variant: str, found: tuple[list[int], list[Difference]]) -> dict[str, Any]:
    seeds, each = found
    goodput = next(one for one in each if one.figure == GOODPUT)
    worse = goodput.interval is not None and goodput.interval.low > 0
    return {
        "link": condition[0],
        "schedule": condition[1],
        "variant": variant,
        "against": DEFAULT_PRESET,
        "seeds": seeds,
        "default_worse_in_goodput": worse,
        "differences": {one.figure: asdict(one) for one in each},
    }


def _disturbance(results: Results, condition: Condition, variant: str, seeds: list[int]) -> dict[str, Any]:
    """Return the largest share of the machine that other processes took during the runs of a comparison."""
    wanted = [_job(condition, name, seed) for seed in seeds for name in (variant, DEFAULT_PRESET)]
    most = max(results[job].others_cpu_share for job in wanted)
    return {"others_cpu_share": most, "disturbed": most > QUIET}


def _over_all(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the goodput of presets that copy minus the default's, on average over all cells with updates, by link.

    The interval is by bootstrap over cells, so it contains the chance of single runs, but not that of other
    conversations, because all cells of a seed play the same ones.
    """
    goodput: dict[tuple[str | None, str], dict[tuple[str, int], float]] = defaultdict(dict)
    for run in runs:
        if run["schedule"] != NEVER and run["variant"] in COPYING:
            goodput[run["link"], run["variant"]][run["schedule"], run["seed"]] = run["figures"]["goodput_per_s"]
    found = []
    for (link, variant), cells in goodput.items():
        default = goodput.get((link, DEFAULT_PRESET), {})
        common = [cell for cell in cells if cell in default]
        if variant != DEFAULT_PRESET and common:
            changes = np.array([cells[cell] - default[cell] for cell in common])
            means = np.array([counts @ changes / len(changes) for counts in draws(len(changes), SEED)])
            bounds = interval(means)
            about = {"link": link, "variant": variant, "cells": len(common), "difference": float(changes.mean())}
            found.append({**about, "interval": None if bounds is None else asdict(bounds)})
    return found


def _by_speed(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return how goodput depends on the device's time for a token among presets that copy, with updates and without.

    Both are divided by their means over a cell's presets, so that schedules and seeds play no part. ``per_percent``: by
    how many percent goodput changes when a token takes one percent longer.
    """
    cells: dict[bool, dict[tuple[Condition, int], list[list[float]]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run["variant"] in COPYING:
            both = [run["figures"]["token_ms"], run["figures"]["goodput_per_s"]]
            cells[run["schedule"] != NEVER][(run["link"], run["schedule"]), run["seed"]].append(both)
    found = []
    for updates, by_cell in cells.items():
        whole = [np.array(each) for each in by_cell.values() if len(each) == len(COPYING)]
        if len(whole) > 1:
            times, goodput = np.concatenate([each / each.mean(axis=0) for each in whole]).T
            correlation, slope = np.corrcoef(times, goodput)[0, 1], np.polyfit(times, goodput, 1)[0]
            figures = {"correlation": float(correlation), "per_percent": float(slope)}
            found.append({"updates": updates, "runs": len(times), **figures})
    return found


def _with_reuse(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bytes copied out with reuse over those without, where both were run with the same seeds."""
    out: dict[tuple[Condition, int], dict[str, float]] = defaultdict(dict)
    for run in runs:
        out[(run["link"], run["schedule"]), run["seed"]][run["variant"]] = run["figures"]["bytes_out"]
    shares = []
    for condition in dict.fromkeys(condition for condition, _ in out):
        cells = [by for (where, _), by in out.items() if where == condition and "groups" in by and "groups+reuse" in by]
        without = sum(by["groups"] for by in cells)
        if without:
            share = sum(by["groups+reuse"] for by in cells) / without
            shares.append({"link": condition[0], "schedule": condition[1], "seeds": len(cells), "share": share})
    return shares
