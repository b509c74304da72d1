"""The traces of the cases. `python -m benchmarks.fairness.traces` writes those that are stored, from fixed seeds."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

from benchmarks.fairness.cases import CAPACITY_PER_S, CASES, SECONDS, Case, Scene, Tenant
from clients.trace import Trace, TraceConversation, TraceTurn, read_trace, write_trace

FOLDER = Path(__file__).parent / "traces"
SPREAD = 0.5  # sizes are uniform between so much below and above their mean


def draw(case: Case, seconds: float = SECONDS) -> Trace:
    """Return the case's trace; the same arguments give the same trace on every machine."""
    sent = [request for tenant in case.tenants for request in _requests(case, tenant, seconds)]
    sent.sort(key=lambda request: request.arrival_s or 0.0)
    weights = {tenant.name: float(tenant.weight) for tenant in case.tenants}
    return Trace(tuple(sent), weights=weights, source={"case": case.name, "seconds": seconds})


def trace_of(case: Case, seconds: float) -> Trace:
    """Return the stored trace, or one that is drawn if another length is wanted. Raises OSError, `TraceError`."""
    return read_trace(path_of(case)) if seconds == SECONDS else draw(case, seconds)


def path_of(case: Case) -> Path:
    """Return where a case's trace is stored."""
    return FOLDER / f"{case.name}.jsonl"


def kept(scene: Scene, trace: Trace) -> Trace:
    """Return the part of a trace that a scene plays. All names stay, and with them all messages."""
    seen: dict[str, int] = {}
    left = []
    for request in trace.conversations:
        number = seen[request.tenant] = seen.get(request.tenant, -1) + 1
        every = scene.every.get(request.tenant, 1)
        if every and number % every == 0:
            left.append(request)
    return replace(trace, conversations=tuple(left))


def _requests(case: Case, tenant: Tenant, seconds: float) -> Iterator[TraceConversation]:
    random = Random(f"{case.name}/{tenant.name}")
    began, number = 0.0, 0
    for phase in tenant.phases:
        ends = began + phase.share * seconds
        for at in _arrivals(random, CAPACITY_PER_S * phase.load, began, ends, paced=tenant.paced):
            turn = TraceTurn(_size(random, phase.prompt), _size(random, phase.answer))
            yield TraceConversation(f"{tenant.name}-{number}", round(at, 3), (turn,), tenant.name)
            number += 1
        began = ends


def _arrivals(random: Random, per_s: float, began: float, ends: float, *, paced: bool) -> Iterator[float]:
    """Yield a Poisson process, or one arrival at a random moment of each period."""
    if paced:
        yield from (began + (period + random.random()) / per_s for period in range(round(per_s * (ends - began))))
        return
    at = began + random.expovariate(per_s) if per_s else ends
    while at < ends:
        yield at
        at += random.expovariate(per_s)


def _size(random: Random, mean: int) -> int:
    return round(random.uniform(1 - SPREAD, 1 + SPREAD) * mean)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for case in CASES.values():
        write_trace(draw(case), path_of(case))


if __name__ == "__main__":
    main()
