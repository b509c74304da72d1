"""docs/case-studies.md, made of benchmarks/results/fairness.json.

`python -m benchmarks.fairness.page` makes it again from the stored result, without running anything. A table appears
when its runs are stored.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fairness.cases import ALONE, FLOODS, POLICIES, flood
from benchmarks.record import RESULTS
from benchmarks.switching.selection import table

PAGE = Path(__file__).parents[2] / "docs" / "case-studies.md"
RESULT = RESULTS / "fairness.json"
Document = dict[str, Any]
Runs = Sequence[dict[str, Any]]

TEXT = """\
# Case studies

Four loads, each with the command that plays it on a server of its own under one policy after the other, and what to
look at. Tenants are the owners of keys, and have equal weights here. *Service* counts each prompt token that is not
reused as 1 and each token of an answer as 2; TTFT counts from when a request was due. The traces are in
`benchmarks/fairness/traces`.

## Peak hours

```
make fairness ARGS="--only increasing"
```

`steady` asks for less than half of the machine at all times. `rising` asks for a fifth of it at first, and for twice
the machine at the end: its peak hour. Look at `steady`'s P99: under `fcfs` and `priority` it waits in `rising`'s queue
once the machine is full. Under `vtc` it goes before `rising`, for it never asks for more than its share. `service` in
the result has both curves over time.

{increasing}
## Long beside short

```
make fairness ARGS="--only short-long"
```

`short` sends questions of 40 tokens with answers of 16, `long` half as many documents of 260 tokens with answers of 64,
and both ask for more than half of the machine. Look at service: `fcfs` and `priority` give to each in proportion to
what it sends, so `long` gets about twice as much. `vtc` counts tokens and should give both the same.

{short_long}
## A flood

```
make demo                             # half a minute, to watch in the chat page
make fairness ARGS="--only flood"     # every strength, measured
```

`light` asks evenly for about half of its share. `flood` sends from 1 to 32 times its own share, far more than can be
answered. Look at `light`'s P99: under `fcfs` it grows with the queue, and under `vtc` it should stay near what it is
alone, however strong the flood. Look at the throughput of both together too: what `light` does not use is `flood`'s,
so none of it should be lost.

{flood}
## Where all this gains nothing

```
make fairness ARGS="--only calm"
```

Two tenants ask for half of the machine together. Nobody waits for anybody, so there is nothing to divide, and no policy
can be better than another: look for the lack of a difference. The same holds with one tenant alone, for which `vtc` is
first come, first served. Fairness costs nothing here and gains nothing. If your tenants never fill the machine, more
machines or a larger batch do more for latency than any policy.

{calm}
## What must hold

Under `vtc` beside every flood: the light tenant's P99 TTFT is at most what it has alone plus two P99 steps
(`light_p99_over_alone`), and at least ten times better than under `fcfs` where the flood overloads the machine
(`light_p99_vs_fcfs`); the flood gets all the rest (`throughput_vs_fcfs`); preemptions are rare. In every case the gap
between tenants that wait stays below its bound (`max_gap_over_bound`), by the server's own gauges and by half of what
clients see, since a difference of two gaps can be twice the bound. Chats hardly notice background work
(`service_tier: flex`), which fills what they leave.

{criteria}
## How it was measured

`make fairness` measures the running service over real sockets, each run with a new server and with keys for the
tenants. Every request is sent when it is due, however late the answers are; what is not answered at the end of the run
is cut off. A turn that was cut off while it waited counts as one that takes longer than it waited (Kaplan-Meier), and a
quantile beyond all that is known is the longest wait: what is shown for a tenant that waits long is too low rather than
too high. `benchmarks/results/fairness.json` holds every run with its curves, and the criteria: each value, its limit,
and whether it holds.

{machine}"""


def write_page(document: Document | None, path: Path = PAGE) -> None:
    """Write the page; without a document, without figures."""
    path.write_text(render(document))


def render(document: Document | None) -> str:
    """Return the page."""
    runs = document["figures"]["runs"] if document else []
    tables = {name.replace("-", "_"): _by_tenant(runs, name) for name in ("increasing", "short-long", "calm")}
    text = TEXT.format(**tables, flood=_floods(runs), criteria=_criteria(document), machine=_machine(document))
    return text.replace("\n\n\n", "\n\n").rstrip("\n") + "\n"  # where there is no table


def _by_tenant(runs: Runs, scene: str) -> str:
    """Return a row for each policy and tenant."""
    columns = ["policy", "tenant", "TTFT P50, s", "TTFT P99, s", "TBT P99, ms", "service/s", "answered"]
    rows = list(_tenant_rows(_of(runs, scene)))
    return table(columns, rows, names=2) if rows else ""


def _tenant_rows(runs: Runs) -> Iterator[list[str]]:
    for run in runs:
        for name, tenant in run["tenants"].items():
            times = [_number(tenant["ttft_p50_s"]), _number(tenant["ttft_p99_s"]), _number(tenant["tbt_p99_s"], 1e3)]
            answered = f"{tenant['answered']} of {tenant['requests']}"
            yield [f"`{run['policy']}`", f"`{name}`", *times, f"{tenant['service_per_s']:.0f}", answered]


def _floods(runs: Runs) -> str:
    """Return a row for each strength of the flood and each policy."""
    columns = ["flood", "policy", "light: TTFT P50, s", "P99, s", "all: tokens/s", "preemptions a step"]
    scenes = [("none", ALONE), *((f"{times}x", flood(times)) for times in FLOODS)]
    rows = [
        [
            label,
            f"`{run['policy']}`",
            *(_number(run["tenants"]["light"][name]) for name in ("ttft_p50_s", "ttft_p99_s")),
            _number(run["tokens_per_s"]),
            _number(run["preemptions_per_step"]),
        ]
        for label, scene in scenes
        for run in _of(runs, scene)
    ]
    return table(columns, rows, names=2) if rows else ""


def _criteria(document: Document | None) -> str:
    judged = document["figures"]["criteria"] if document else []
    rows = [
        [
            f"`{each['name']}`",
            each["worst"],
            _number(each["value"]),
            f"{'at most' if each['at_most'] else 'at least'} {each['limit']:g}",
            "yes" if each["holds"] else "no",
        ]
        for each in judged
    ]
    return table(["figure", "worst in", "value", "limit", "holds"], rows, names=2) if rows else ""


def _of(runs: Runs, scene: str) -> Runs:
    return sorted((run for run in runs if run["scene"] == scene), key=lambda run: _place(run["policy"]))


def _place(policy: str) -> int:
    return POLICIES.index(policy) if policy in POLICIES else len(POLICIES)


def _number(value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else f"{scale * value:.3g}"


def _machine(document: Document | None) -> str:
    if document is None:
        return ""
    runs = document["figures"]["runs"]
    commits = ", ".join(sorted({run["commit"] for run in runs}))
    lengths = ", ".join(sorted({f"{run['seconds']:g}" for run in runs}))
    return f"- Machine: {document['hardware']}\n- Commits: {commits}\n- {len(runs)} runs of {lengths} seconds\n"


if __name__ == "__main__":
    write_page(json.loads(RESULT.read_text()) if RESULT.exists() else None)
