"""docs/switching.md, its plot and its appendix, made of benchmarks/results/switch.json.

`python -m benchmarks.switching.page` makes them again from the stored result, without running anything.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import Any

from benchmarks.record import RESULTS
from benchmarks.switching.cells import render_cells
from benchmarks.switching.comparison import GOODPUT
from benchmarks.switching.matrix import CAP, COPYING, NEVER, RECOMPUTE, VARIANTS
from benchmarks.switching.plot import draw
from benchmarks.switching.selection import links, means, table
from service.config import DEFAULT_PRESET

DOCS = Path(__file__).parents[2] / "docs"
LINKS = {None: "memory", "pcie4": "PCIe 4.0"}
SHOWN = (
    ("bytes_out", 1e-6, ",.0f"),
    ("blocks_per_copy_out", 1, ".3g"),
    ("recomputed_tokens", 1, ",.0f"),
    ("ttft_p95_s", 1, ".1f"),
    ("tbt_p99_s", 1e3, ",.0f"),
)

PAGE = """\
# What each mechanism of switching buys

{conclusion}

{chance}

![Goodput by preset, and megabytes copied out](switching.svg)

*Bars are means over the schedules of priorities, dots are single schedules.*

{table}
Means over {num_schedules} schedules of priorities and their seeds; copies and latencies are those of the first link.
*Difference*: of goodput to `groups+reuse+async`, with its 95 % interval over cells. The interval contains the chance of
single runs, but not that of other conversations. A cell is a link, a schedule and a seed.

## The presets

- `vllm-0.3.3` copies per block, layer and side, as vLLM 0.3.3 does, and every step waits for the copies.
- `vllm-recompute` copies nothing: a victim's KV is dropped, and computed again when the victim resumes.
- `groups` copies whole block groups: a block holds all layers, and neighbouring blocks are copied at once.
- `groups+reuse` also keeps copies on the host after a swap-in, so that only new tokens are copied out next time, and a
  victim gives only the blocks that are needed (the stored runs are older: their victims left as a whole).
- `groups+reuse+async`, the default, also copies beside the steps.
- `fixed-cap` does without context switches: it admits as many requests as conversations fit into device memory, first
  come, first served, whatever the schedule. Its runs are the same under every schedule.

## Why copies are short

FastSwitch's paper has about 20 blocks a copy, the table above less than 5. `python -m benchmarks.switching.copies`
plays such chats over core alone, in virtual time. With `--scale 8 --every 100` they are eight times as long:

| `groups+reuse+async`, blocks | a ticket | a copy | a run on the device | a run on the host |
| --- | --: | --: | --: | --: |
| out | 5.9 | 1.3 | 1.3 | 4.8 |
| in | 10.5 | 1.3 | 1.4 | 8.4 |
| out, chats 8 times as long | 22.5 | 1.8 | 1.8 | 18.2 |
| in, chats 8 times as long | 85.6 | 2.3 | 2.4 | 36.4 |

- A chat of this page has some 18 blocks at its end, and reuse copies out only its new ones: tickets have 6 to 10.
- The device's pool makes the copies short, not the host's. It is full at almost every step, since KV of requests that
  do not run stays until its blocks are needed. So a batch grows by single blocks that victims give, and whoever returns
  gets what others left. With twice the device memory, the long chats have 3.9 and 4.3 blocks a copy.
- Compaction needs two block groups of free memory, which a full pool does not have. `--block-group-size` of 2 to 60
  makes a difference of 10 %, since hardly any group is as long.
- Victims that give 8 to 32 mirrored blocks more than needed make copies 10 to 25 % longer, and up to 4 % more is copied
  back in. At 25 GB/s and 6 us a copy the link is busy for the same time within 1 %, so they give what is needed.

## How it was measured

`make switch-bench` measures the running service. `benchmarks/results/switch.json` holds every run with its flags, date
and commit; `python -m benchmarks.switching.page` makes this page from it again.

All presets of a cell play the same conversations under the same sequence of priorities, back to back on one machine, in
an order that rotates. Conversations have two to four turns. There is device memory for a quarter of them at their full
length, and host memory for all. Turns arrive at 120 % of the capacity: what the server does in the first half of the
turns when all conversations begin at once, first come, first served. Latencies count from when a turn was due. Copies
over the emulated link take at least what a PCIe 4.0 x16 link takes (25 GB/s, 6 us a copy); no such link was there.

- Machine: {hardware}
- Command: `{command}`
- Commits: {commits}
- {num_runs} runs of {conversations} conversations each, {hours:.1f} hours
- Capacity: {capacity}
- Goodput: turns a second that kept to `{slo}` (seconds; TBT as the 99th percentile of the turn's own gaps).
- A block is {block_kib:,.0f} KiB.
- Other processes took {low:.0%} to {high:.0%} of the machine's processor time during a run.
"""


def write_pages(document: dict[str, Any], folder: Path = DOCS) -> None:
    """Write the page, its plot and its appendix into a folder."""
    (folder / "switching.md").write_text(render(document))
    (folder / "switching-cells.md").write_text(render_cells(document["figures"]))
    (folder / "switching.svg").write_text(draw(document["figures"]["runs"]))


def render(document: dict[str, Any]) -> str:
    """Return the page."""
    figures = document["figures"]
    return PAGE.format(
        conclusion=fill(f"**{said}**", 120) if (said := " ".join(_conclusion(figures))) else "",
        chance=fill(" ".join(_chance(figures)), 120),
        table=_presets(figures),
        num_schedules=len({run["schedule"] for run in figures["runs"]} - {NEVER}),
        hardware=document["hardware"],
        command=document["command"],
        commits=", ".join(figures["commits"]),
        num_runs=len(figures["runs"]),
        hours=figures["runs_wall_s"] / 3600,
        conversations=figures["conversations"],
        capacity=", ".join(f"{each['turns_per_s']:.2f} turns/s (seed {each['seed']})" for each in figures["capacity"]),
        low=figures["others_cpu_share"][0],
        high=figures["others_cpu_share"][1],
        slo=figures["slo"],
        block_kib=figures["block_bytes"] / 1024,
    )


def _conclusion(figures: dict[str, Any]) -> Iterator[str]:
    """Yield the sentences that the runs so far allow."""
    runs = figures["runs"]
    link = links(runs)[0]
    goodput = {variant: means(runs, variant, link, GOODPUT) for variant in VARIANTS}
    default, recompute, cap = (goodput[variant] for variant in (DEFAULT_PRESET, RECOMPUTE, CAP))
    if lost := {name: 1 - value / default[name] for name, value in recompute.items() if name in default}:
        worst, average = max(lost, key=lost.__getitem__), 1 - _mean(recompute) / _mean(default)
        yield f"Dropping KV and computing it again (`{RECOMPUTE}`) costs {100 * average:.0f} % of the goodput on"
        yield f"average, and {100 * lost[worst]:.0f} % at worst (`{worst}`)."
    copying = [_mean(goodput[name]) for name in COPYING if goodput[name]]
    if cap and copying:
        yield f"Copying it keeps the goodput at {min(copying):.2f} to {max(copying):.2f} turns/s; a server that does"
        yield f"not switch (`{CAP}`) has {_mean(cap):.2f}."
    reuse = [each for each in figures["swap_out_with_reuse"] if each["schedule"] != NEVER and each["link"] == link]
    if saved := [100 * (1 - each["share"]) for each in reuse]:
        yield f"Keeping copies (`groups+reuse`) saves {min(saved):.0f} to {max(saved):.0f} % of what is copied out."


def _chance(figures: dict[str, Any]) -> Iterator[str]:
    """Yield what the runs cannot show."""
    over_all = [each for each in figures["goodput_over_all"] if each["interval"] is not None]
    apart = [each for each in over_all if not each["interval"]["low"] < 0 < each["interval"]["high"]]
    for each in apart:
        yield f"Over all cells `{each['variant']}` differs in goodput by {_difference(each)} ({LINKS[each['link']]})."
    if over_all and not apart:
        yield "On a CPU both pools are the same memory, and the presets that copy cannot be told apart in goodput: over"
        yield "all cells every interval of their difference contains 0."
    comparisons, below = figures["comparisons"], len(figures["goodput_below"])
    if disturbed := sum(each["disturbed"] for each in comparisons):
        yield f"Other processes disturbed {disturbed} comparisons, which need to be made again."
    yield f"Single cells differ by the machine's noise: in {below} of {len(comparisons)} comparisons the default has"
    yield "less goodput, beyond the interval over conversations (see [the appendix](switching-cells.md))."


def _presets(figures: dict[str, Any]) -> str:
    """Return the table of all presets."""
    columns = ["preset"]
    for link in links(figures["runs"]):
        columns += [f"goodput /s, {LINKS[link]}", "difference"]
    columns += ["copied out, MB", "blocks a copy", "recomputed tokens", "TTFT P95, s", "TBT P99, ms"]
    return table(columns, (list(_row(figures, variant)) for variant in VARIANTS))


def _row(figures: dict[str, Any], variant: str) -> Iterator[str]:
    runs = figures["runs"]
    differences = {(each["link"], each["variant"]): each for each in figures["goodput_over_all"]}
    yield f"`{variant}`"
    for link in links(runs):
        ours = means(runs, variant, link, GOODPUT)
        yield f"{_mean(ours):.2f}" if ours else ""
        yield _difference(differences[link, variant]) if (link, variant) in differences else ""
    for figure, scale, form in SHOWN:
        found = means(runs, variant, links(runs)[0], figure)
        yield f"{scale * _mean(found):{form}}" if found else ""


def _difference(each: dict[str, Any]) -> str:
    bounds = each["interval"]
    shown = f"{each['difference']:+.2f}"
    return shown if bounds is None else f"{shown} [{bounds['low']:+.2f}, {bounds['high']:+.2f}]"


def _mean(by_schedule: dict[str, float]) -> float:
    return fmean(by_schedule.values())


if __name__ == "__main__":
    write_pages(json.loads((RESULTS / "switch.json").read_text()))
