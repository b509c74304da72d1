"""What a server says that it computed: counters of /metrics, so that `usage` is not believed alone."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.server import scrape

SETTLE_S = 0.2  # a counter may follow the last token by a step


class UnknownCountersError(Exception):
    """A server has none of the counters that are known here."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Prompt tokens: all of a server's requests, and those whose KV it computed."""

    prompt: int
    computed: int

    def since(self, before: "Counts") -> "Counts":
        """Return how much both grew."""
        return Counts(self.prompt - before.prompt, self.computed - before.computed)


# Of each kind of server: its counters of all prompt tokens and of those computed. Ours also counts what a preempted
# request computes again; vLLM does not.
NAMES = (
    ("fastswitch_prompt_tokens_total", "fastswitch_computed_tokens_total{phase=prefill}"),
    ("vllm:prompt_tokens_total", "vllm:prompt_tokens_by_source_total{source=local_compute}"),
)


def counts_in(samples: Mapping[str, float]) -> Counts:
    """Return the counts among the samples of `scrape`. Raises `UnknownCountersError`."""
    for prompt, computed in NAMES:
        found = _sum(samples, prompt), _sum(samples, computed)
        if found[0] is not None and found[1] is not None:
            return Counts(int(found[0]), int(found[1]))
    raise UnknownCountersError(f"{len(samples)} samples, and none of {', '.join(name for name, _ in NAMES)}")


def _sum(samples: Mapping[str, float], wanted: str) -> float | None:
    """Return the sum over the labels that ``wanted`` does not name; None if there is no such sample."""
    name, *labels = wanted.split("{")
    values = [
        value
        for key, value in samples.items()
        if key.split("{")[0] == name and all("{" + label in key for label in labels)
    ]
    return sum(values) if values else None


async def settled(url: str) -> Counts:
    """Return the counts of a server once they stand still."""
    last = None
    while last != (now := counts_in(await scrape(url))):
        last = now
        await asyncio.sleep(SETTLE_S)
    return now
