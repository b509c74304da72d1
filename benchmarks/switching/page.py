"""docs/switching.md, made of benchmarks/results/switch.json."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any

from benchmarks.switching.matrix import COPYING, NEVER, VARIANTS, Cell, Job, Schedule, run_of

HEAD = """\
# What each mechanism buys

Measured on the running service by `make switch-bench`; this page is made of `benchmarks/results/switch.json`, which
holds every run with its flags, date and commit.

All variants of a table play the same conversations under the same sequence of priorities, back to back on one machine,
in an order that rotates. Conversations have two to four turns; there is device memory for a quarter of them at
their full length and host memory for all; turns arrive at 120 % of what the server does with that memory, first come,
first served, when all conversations begin at once, in the first half of their turns. `fixed-cap` is what one does
without context switches: as many requests as conversations have room, first come, first served, whatever the schedule;
its runs are the same in every table of a link. `vllm-recompute` copies nothing: its runs are the same on either link.
Latencies count from when a turn was due.

- Machine: {hardware}
- Command: `{command}`
- Commits: {commits}
- {num_runs} runs of {conversations} conversations each, {hours:.1f} hours
- What the server does of them: {capacity}
- Processes that do not belong to the measurement took {low:.0%} to {high:.0%} of the machine's processor time during a
  run, by variant in the column *others*. The more they took, the worse and the noisier is every figure; where they took
  more during one variant than during another, latencies and goodput of the two say little about the variants, and
  turns arrived at more than 120 % of what the machine then had to give.
- Goodput: turns a second that kept to `{slo}` (seconds; TBT as the 99th percentile of the turn's own gaps).
- A block is {block_kib:,.0f} KiB. Figures are means over the seeds.

What is not here has not been run; `python -m benchmarks.switching --help` says what the whole matrix is.

Behind a figure, in brackets: the 95 % interval of its ratio to `groups+reuse+async` (of goodput the difference in turns
a second), by paired bootstrap over the conversations of all seeds. It tells what other conversations would give, not
what another run would.
"""

USERS = ("", "TTFT P50 s", "P95", "P99", "TBT P50 ms", "P99", "P99.9", "goodput /s", "SLO met", "tokens/s", "errors")
SERVER = (
    "",
    "preempted",
    "updates /s",
    "out MB",
    "in MB",
    "blocks a copy, out",
    "in",
    "recomputed tokens",
    "stall",
    "swap manager",
    "all managers",
    "step ms",
    "ms a token",
    "others",
)
LINKS = {
    None: "Both pools in this machine's memory",
    "pcie4": "Emulated link: PCIe 4.0",
}
LINK_NOTES = {
    None: "A test bed: copies are fast, and take the processor's time.",
    "pcie4": "Copies between the same two pools, made to take at least what a PCIe 4.0 x16 link and its cost a copy "
    "take (25 GB/s, 6 us a copy). No such link was there.",
}


def render(document: dict[str, Any]) -> str:
    """The whole page."""
    figures = document["figures"]
    head = HEAD.format(
        hardware=document["hardware"],
        command=document["command"],
        commits=", ".join(figures["commits"]),
        num_runs=len(figures["runs"]),
        hours=figures["runs_wall_s"] / 3600,
        conversations=figures["conversations"],
        capacity=", ".join(_capacity(each) for each in figures["capacity"]),
        low=figures["others_cpu_share"][0],
        high=figures["others_cpu_share"][1],
        slo=figures["slo"],
        block_kib=figures["block_bytes"] / 1024,
    )
    return "\n".join([head, *_claims(figures), *_places(figures)]) + "\n"


def _capacity(each: dict[str, float]) -> str:
    return f"{each['turns_per_s']:.2f} turns a second (seed {each['seed']}, others {each['others_cpu_share']:.0%})"


def _claims(figures: dict[str, Any]) -> Iterable[str]:
    yield "## In short\n"
    quiet = [each for each in figures["comparisons"] if not each["disturbed"]]
    if disturbed := len(figures["comparisons"]) - len(quiet):
        yield (
            f"- {disturbed} of {len(figures['comparisons'])} comparisons with `groups+reuse+async` say nothing of "
            "latencies and goodput: others took over 10 % of the machine during one of the runs or both. They are in "
            "the tables and need to be made again. How many are preempted, and so what is copied, depends on it too."
        )
    for below in figures["goodput_below"]:
        low, high = _bounds(below, "goodput_per_s")
        yield (
            f"- `groups+reuse+async` has less goodput than `{below['variant']}` under {below['schedule']}"
            f"{_on(below['link'])}: by {low:.2f} to {high:.2f} turns a second."
        )
    if quiet and not figures["goodput_below"]:
        yield (
            f"- In none of {len(quiet)} comparisons is the goodput of `groups+reuse+async` below another variant's "
            "beyond the interval."
        )
    yield from _chance(figures["runs"])
    yield from map(_speed, figures["goodput_by_speed"])
    for each in figures["goodput_over_all"]:
        if each["interval"] is not None:
            yield (
                f"- Over all {each['cells']} cells with updates{_on(each['link'])} `{each['variant']}` has "
                f"{each['difference']:+.2f} turns a second of goodput against `groups+reuse+async` on average, 95 % "
                f"interval over cells, single runs' chance included, other conversations' not: "
                f"{each['interval']['low']:+.2f} to "
                f"{each['interval']['high']:+.2f}."
            )
    for each in figures["swap_out_with_reuse"]:
        yield (
            f"- With reuse, {each['share']:.0%} of the bytes are copied out that are without, under {each['schedule']}"
            f"{_on(each['link'])} (`groups+reuse` over `groups`, seeds: {each['seeds']})."
        )
    yield ""


def _chance(runs: Sequence[dict[str, Any]]) -> Iterable[str]:
    """How far runs lie apart where presets that copy have little to differ in: without updates."""
    alike = [run for run in runs if run["schedule"] == NEVER and run["variant"] in COPYING]
    spreads, preempted = [], [run["figures"]["preempted_share"] for run in alike]
    busy_s = [run["figures"]["link_busy_s"] for run in alike]
    for cell in {(run["link"], run["seed"]) for run in alike}:
        goodput = [run["figures"]["goodput_per_s"] for run in alike if (run["link"], run["seed"]) == cell]
        spreads.append((max(goodput) - min(goodput)) / fmean(goodput))
    if spreads:
        yield (
            f"- With no updates at most {max(preempted):.0%} of the turns are preempted, copies keep the link busy for "
            f"{max(busy_s):.1f} s of a run at most, and presets that copy do nearly the same work. Their goodput "
            f"differs by {min(spreads):.0%} to {max(spreads):.0%} within a seed. One run a cell does not tell a "
            "preset's part in that from the run's own chance, which the intervals over conversations do not hold."
        )


def _speed(found: dict[str, Any]) -> str:
    schedules = "with updates" if found["updates"] else "with no updates"
    return (
        f"- In the {found['runs']} runs {schedules} of presets that copy, goodput went with the time that the machine "
        f"took to compute a token: within a cell they correlate by {found['correlation']:.2f}, and 1 % more time came "
        f"with {-found['per_percent']:.1f} % less goodput."
    )


def _places(figures: dict[str, Any]) -> Iterable[str]:
    runs = figures["runs"]
    for link in dict.fromkeys(run["link"] for run in runs):
        yield f"## {LINKS[link]}\n\n{LINK_NOTES[link]}\n"
        for schedule in dict.fromkeys(run["schedule"] for run in runs if run["link"] == link):
            here = [run for run in runs if _stands_for(run, link, schedule)]
            compared = [each for each in figures["comparisons"] if (each["link"], each["schedule"]) == (link, schedule)]
            yield _title(schedule, here)
            yield _table(USERS, (_users_row(name, of, compared) for name, of in _by_variant(here)))
            yield _table(SERVER, (_server_row(name, of) for name, of in _by_variant(here)))


def _stands_for(run: dict[str, Any], link: str | None, schedule: str) -> bool:
    made, wanted = (
        Job(Cell(Schedule.parse(when), over, run["seed"]), run["variant"])
        for over, when in ((run["link"], run["schedule"]), (link, schedule))
    )
    return made == run_of(wanted)


def _title(schedule: str, runs: Sequence[dict[str, Any]]) -> str:
    policy, _, every = schedule.partition(":")
    seeds = ", ".join(str(seed) for seed in sorted({run["seed"] for run in runs}))
    how = f"priorities `{policy}`, every {every} steps" if every else "first come, first served"
    return f"### {how[0].upper()}{how[1:]}\n\nSeeds {seeds}.\n"


def _by_variant(runs: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups = [(variant, [run["figures"] for run in runs if run["variant"] == variant]) for variant in VARIANTS]
    return [(variant, found) for variant, found in groups if found]


def _users_row(name: str, runs: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]]) -> list[str]:
    against = next((each for each in compared if each["variant"] == name), None)

    def cell(figure: str, form: str, scale: float = 1.0) -> str:
        value = f"{scale * _mean(runs, figure):{form}}"
        return value if against is None else f"{value} {_brackets(against, figure)}"

    return [
        f"`{name}`",
        *(cell(f"ttft_p{quantile}_s", ".2f") for quantile in (50, 95, 99)),
        *(cell(f"tbt_p{quantile}_s", ".0f", 1e3) for quantile in (50, 99, 99.9)),
        cell("goodput_per_s", ".2f"),
        f"{_mean(runs, 'slo_met_share'):.0%}",
        f"{_mean(runs, 'output_tokens_per_s'):.0f}",
        f"{sum(run['errors'] for run in runs)}",
    ]


def _server_row(name: str, runs: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"`{name}`",
        f"{_mean(runs, 'preempted_share'):.0%}",
        f"{_mean(runs, 'priority_updates_per_s'):.2f}",
        f"{_mean(runs, 'bytes_out') / 1e6:,.0f}",
        f"{_mean(runs, 'bytes_in') / 1e6:,.0f}",
        f"{_mean(runs, 'blocks_per_copy_out'):.3g}",
        f"{_mean(runs, 'blocks_per_copy_in'):.3g}",
        f"{_mean(runs, 'recomputed_tokens'):,.0f}",
        f"{_mean(runs, 'stall_share'):.2%}",
        f"{_mean(runs, 'swap_overhead_share'):.2%}",
        f"{_mean(runs, 'manager_overhead_share'):.2%}",
        f"{_mean(runs, 'step_ms'):.0f}",
        f"{_mean(runs, 'token_ms'):.2f}",
        f"{_mean(runs, 'others_cpu_share'):.0%}",
    ]


def _brackets(compared: dict[str, Any], figure: str) -> str:
    bounds = _bounds(compared, figure)
    form = "+.2f" if figure == "goodput_per_s" else ".2f"
    return "" if bounds is None else f"[{bounds[0]:{form}}, {bounds[1]:{form}}]"


def _bounds(compared: dict[str, Any], figure: str) -> tuple[float, float] | None:
    interval = compared["differences"][figure]["interval"]
    return None if interval is None else (interval["low"], interval["high"])


def _mean(runs: Sequence[dict[str, Any]], figure: str) -> float:
    return fmean(run[figure] for run in runs)


def _on(link: str | None) -> str:
    return "" if link is None else f" on the emulated link {link}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---", *["--:"] * (len(columns) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
