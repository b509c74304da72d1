"""From the figures of single runs to what must hold under `vtc`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.fairness.cases import ALONE, BATCH, BESIDE, CHATS, FLOODS, flood

FAIR, PLAIN = "vtc", "fcfs"
OVERLOADED = 0.9  # where fewer requests than this share are answered under `PLAIN`, the machine is overloaded

Runs = Mapping[tuple[str, str], dict[str, Any]]  # by scene and policy


@dataclass(frozen=True, slots=True)
class Criterion:
    """What must hold: ``value`` is at most ``limit``, or at least if not ``at_most``; ``worst`` is the scene."""

    name: str
    value: float
    limit: float
    worst: str
    at_most: bool = True

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def outcome(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the result to store: the criteria that the runs allow to judge, by name, and the runs.

    - ``light_p99_over_alone``: the light tenant's P99 TTFT beside a flood, over what it is alone plus two P99 steps.
    - ``light_p99_vs_fcfs``: the same under fcfs, over that under vtc, where the flood overloads the machine.
    - ``throughput_vs_fcfs``: tokens a second of all tenants beside a flood, over those under fcfs.
    - ``max_gap_over_bound``: the server's gauges, and half of the gap that the clients saw over the bound.
    - ``preemptions_per_step`` beside a flood.
    - ``chats_ttft_p99_rise``, ``chats_tbt_p99_rise``: P99 of chats beside background work, over that of chats alone.
    - ``background_fill``: its service over what it gets alone in the time in which chats alone run no step.
    """
    found = {(run["scene"], run["policy"]): run for run in runs}
    criteria = list(_criteria(found))
    judged = [{**asdict(each), "holds": each.holds} for each in criteria]
    return {**{each.name: each.value for each in criteria}, "criteria": judged, "runs": list(runs)}


def _criteria(runs: Runs) -> Iterator[Criterion]:
    scenes = [flood(times) for times in FLOODS if (flood(times), FAIR) in runs]
    beside = [scene for scene in scenes if (scene, PLAIN) in runs]
    crowded = [scene for scene in beside if _answered(runs[scene, PLAIN]) < OVERLOADED]
    if alone := runs.get((ALONE, FAIR)):
        yield from _worst("light_p99_over_alone", {each: _over_alone(runs[each, FAIR], alone) for each in scenes}, 1.0)
    better = {each: _light(runs[each, PLAIN]) / _light(runs[each, FAIR]) for each in crowded}
    yield from _worst("light_p99_vs_fcfs", better, 10.0, at_most=False)
    kept = {each: runs[each, FAIR]["tokens_per_s"] / runs[each, PLAIN]["tokens_per_s"] for each in beside}
    yield from _worst("throughput_vs_fcfs", kept, 0.97, at_most=False)
    yield from _worst("max_gap_over_bound", _gaps(runs), 1.0)
    yield from _worst("preemptions_per_step", {each: runs[each, FAIR]["preemptions_per_step"] for each in scenes}, 0.1)
    yield from _background(runs)


def _background(runs: Runs) -> Iterator[Criterion]:
    if not all((scene, FAIR) in runs for scene in (CHATS, BATCH, BESIDE)):
        return
    chats, beside = (runs[scene, FAIR]["tenants"]["chats"] for scene in (CHATS, BESIDE))
    for name in ("ttft_p99_s", "tbt_p99_s"):
        yield Criterion(f"chats_{name.removesuffix('_s')}_rise", beside[name] / chats[name], 1.1, BESIDE)
    left = runs[BATCH, FAIR]["service_per_s"] * (1 - runs[CHATS, FAIR]["busy_share"])
    filled = runs[BESIDE, FAIR]["tenants"]["batch"]["service_per_s"] / left
    yield Criterion("background_fill", filled, 0.9, BESIDE, at_most=False)


def _worst(name: str, values: Mapping[str, float | None], limit: float, *, at_most: bool = True) -> Iterator[Criterion]:
    """Yield the criterion of the worst scene, if there is any value."""
    known = {scene: value for scene, value in values.items() if value is not None}
    if known:
        scene = (max if at_most else min)(known, key=known.__getitem__)
        yield Criterion(name, known[scene], limit, scene, at_most)


def _gaps(runs: Runs) -> dict[str, float | None]:
    """Return by scene the worse of what the server says of its gap and what clients saw of it."""
    found: dict[str, float | None] = {}
    for (scene, policy), run in runs.items():
        told = [run[name] for name in ("gap_over_bound", "gap_seen_over_twice_bound") if run[name] is not None]
        if policy == FAIR and told:
            found[scene] = max(told)
    return found


def _over_alone(run: dict[str, Any], alone: dict[str, Any]) -> float:
    allowed: float = _light(alone) + 2 * run["step_p99_s"]
    return _light(run) / allowed


def _light(run: dict[str, Any]) -> float:
    return float(run["tenants"]["light"]["ttft_p99_s"])


def _answered(run: dict[str, Any]) -> float:
    answered, sent = (sum(each[name] for each in run["tenants"].values()) for name in ("answered", "requests"))
    return float(answered / sent)
