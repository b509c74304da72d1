"""All runs so far as one document: benchmarks/results/switch.json."""

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
from service.core.switching.mechanisms import DEFAULT_PRESET

# Above this share of the machine taken by others during either of two runs, their difference may be the others'.
QUIET = 0.1

Place = tuple[str | None, str]  # link and schedule
Results = Mapping[Job, RunResult]


def outcome(results: Results, slo: Slo, block_bytes: int) -> dict[str, Any]:
    """Figures of each run, comparisons by place, and the two claims."""
    runs = [_run(job, result, slo, block_bytes) for job, result in results.items()]
    comparisons = [
        {**_comparison(place, variant, found), **_disturbance(results, place, variant, found[0])}
        for place, variant, found in _compared(results, slo)
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


def _compared(results: Results, slo: Slo) -> list[tuple[Place, str, tuple[list[int], list[Difference]]]]:
    """Each variant against the default preset, where both have a seed in common."""
    compared = []
    for place in dict.fromkeys((job.cell.link, str(job.cell.schedule)) for job in results):
        default = _runs(results, place, DEFAULT_PRESET)
        for variant in VARIANTS:
            runs = _runs(results, place, variant)
            seeds = sorted(runs.keys() & default.keys())
            if variant != DEFAULT_PRESET and seeds:
                compared.append((place, variant, (seeds, differences(runs, default, slo))))
    return compared


def _runs(results: Results, place: Place, variant: str) -> dict[int, Run]:
    """Of a variant at a place, by seed."""
    seeds = {job.cell.seed for job in results}
    wanted = {seed: _job(place, variant, seed) for seed in sorted(seeds)}
    return {seed: results[job].run for seed, job in wanted.items() if job in results}


def _job(place: Place, variant: str, seed: int) -> Job:
    return run_of(Job(Cell(Schedule.parse(place[1]), place[0], seed), variant))


def _comparison(place: Place, variant: str, found: tuple[list[int], list[Difference]]) -> dict[str, Any]:
    seeds, each = found
    goodput = next(one for one in each if one.figure == GOODPUT)
    worse = goodput.interval is not None and goodput.interval.low > 0
    return {
        "link": place[0],
        "schedule": place[1],
        "variant": variant,
        "against": DEFAULT_PRESET,
        "seeds": seeds,
        "default_worse_in_goodput": worse,
        "differences": {one.figure: asdict(one) for one in each},
    }


def _disturbance(results: Results, place: Place, variant: str, seeds: list[int]) -> dict[str, Any]:
    """What others took of the machine, at most, during the runs of a comparison."""
    wanted = [_job(place, name, seed) for seed in seeds for name in (variant, DEFAULT_PRESET)]
    most = max(results[job].others_cpu_share for job in wanted)
    return {"others_cpu_share": most, "disturbed": most > QUIET}


def _over_all(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Goodput of presets that copy minus the default's, on average over all cells with updates, by link.

    The interval is by bootstrap over cells, so that the chance of single runs is in it; that of other conversations is
    not, for cells of a seed play the same.
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
            told = {"link": link, "variant": variant, "cells": len(common), "difference": float(changes.mean())}
            found.append({**told, "interval": None if bounds is None else asdict(bounds)})
    return found


def _by_speed(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How goodput and the device's time for a token go together among presets that copy, with updates and without.

    Both are taken over their means of a cell's presets, so that neither schedules nor seeds are in it. ``per_percent``:
    by how many percent goodput changes where a token takes one percent longer.
    """
    cells: dict[bool, dict[tuple[Place, int], list[list[float]]]] = defaultdict(lambda: defaultdict(list))
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
            told = {"correlation": float(correlation), "per_percent": float(slope)}
            found.append({"updates": updates, "runs": len(times), **told})
    return found


def _with_reuse(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bytes copied out with reuse over those without, where both have been run with the same seeds."""
    out: dict[tuple[Place, int], dict[str, float]] = defaultdict(dict)
    for run in runs:
        out[(run["link"], run["schedule"]), run["seed"]][run["variant"]] = run["figures"]["bytes_out"]
    shares = []
    for place in dict.fromkeys(place for place, _ in out):
        cells = [by for (where, _), by in out.items() if where == place and "groups" in by and "groups+reuse" in by]
        without = sum(by["groups"] for by in cells)
        if without:
            share = sum(by["groups+reuse"] for by in cells) / without
            shares.append({"link": place[0], "schedule": place[1], "seeds": len(cells), "share": share})
    return shares
