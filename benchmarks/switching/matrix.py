"""The matrix of runs: variants of the server, in cells of policy, update frequency, link and seed.

All variants of a cell play one trace under one sequence of priorities, back to back. Which variant runs first rotates
from cell to cell, so that a machine that gets slower or busier favours none.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

from service.config import DEFAULT_PRESET

NEVER = "never"
CAP = "fixed-cap"
RECOMPUTE = "vllm-recompute"
# `observe` is left out: it switches as `groups+reuse+async` does under fcfs.
PRESETS = ("vllm-0.3.3", RECOMPUTE, "groups", "groups+reuse", DEFAULT_PRESET)
COPYING = tuple(preset for preset in PRESETS if preset != RECOMPUTE)
VARIANTS = (*PRESETS, CAP)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A policy and how often priorities change. ``every``: steps between updates; None: never, served in order."""

    policy: str
    every: int | None

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Read ``random:10`` or ``never``. Raises ValueError."""
        if text == NEVER:
            return cls("fcfs", None)
        policy, _, every = text.partition(":")
        if policy not in {"random", "markov"} or int(every) < 1:
            raise ValueError(f"{text!r}: expected random:STEPS, markov:STEPS or {NEVER}")
        return cls(policy, int(every))

    def __str__(self) -> str:
        return NEVER if self.every is None else f"{self.policy}:{self.every}"


@dataclass(frozen=True, slots=True)
class Cell:
    """What the variants of one comparison share. ``link``: as in ``--emulate-link``; None is the machine's memory."""

    schedule: Schedule
    link: str | None
    seed: int


@dataclass(frozen=True, slots=True)
class Job:
    """One run of the server."""

    cell: Cell
    variant: str

    @property
    def name(self) -> str:
        """A name for the run's files."""
        cell = self.cell
        parts = (cell.link or "memory", str(cell.schedule), f"seed{cell.seed}", self.variant)
        return "-".join(parts).replace(":", "").replace("+", "_")

    def server_flags(self, max_num_seqs_of_cap: int) -> list[str]:
        """Return flags of `fastswitch serve`. The fixed cap admits fewer requests and serves them in order."""
        capped = self.variant == CAP
        schedule = self.cell.schedule
        flags = ["--preset", DEFAULT_PRESET if capped else self.variant]
        flags += ["--policy", "fcfs" if capped else schedule.policy]
        if not capped and schedule.every is not None:
            flags += ["--priority-update-every", str(schedule.every), "--priority-seed", str(self.cell.seed)]
        if capped:
            flags += ["--max-num-seqs", str(max_num_seqs_of_cap)]
        return flags if self.cell.link is None else [*flags, "--emulate-link", self.cell.link]


def run_of(job: Job) -> Job:
    """Return the run that stands for a job; conditions that make no difference to its variant share one run.

    The fixed cap ignores the schedule, and recomputation copies nothing over any link.
    """
    if job.variant == CAP:
        return replace(job, cell=replace(job.cell, schedule=Schedule.parse(NEVER)))
    if job.variant == RECOMPUTE:
        return replace(job, cell=replace(job.cell, link=None))
    return job


def jobs(
    schedules: Sequence[Schedule], links: Sequence[str | None], seeds: Sequence[int], variants: Sequence[str]
) -> Iterator[Job]:
    """Yield all runs, one link after the other, so that an interrupted matrix says as much as possible."""
    for number, (link, seed, schedule) in enumerate(product(links, seeds, schedules)):
        cell = Cell(schedule, link, seed)
        here = [job for variant in variants if (job := Job(cell, variant)) == run_of(job)]
        turn = number % max(len(here), 1)
        yield from (*here[turn:], *here[:turn])
