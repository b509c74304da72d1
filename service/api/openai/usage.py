"""The token counts of a request while it is answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.api.openai.responses import SwitchFigures, UsageCounts
from service.core.messages.events import Event, Finished, Started, TokenOut


@dataclass(slots=True)
class _Count:
    prompt: int
    completion: int = 0
    cached: int = 0
    end: Finished | None = None


class Tally:
    """Counts tokens by choice.

    ``prompts``: each choice's number of prompt tokens. Every ``choices_per_prompt`` choices in a row share a prompt.
    ``block_bytes``: of a KV block.
    """

    def __init__(self, prompts: Iterable[int], choices_per_prompt: int, block_bytes: int) -> None:
        self._block_bytes = block_bytes
        self._counts = [_Count(prompt) for prompt in prompts]
        self._choices_per_prompt = choices_per_prompt

    def note(self, choice: int, event: Event) -> None:
        """Account for one of the choice's events."""
        count = self._counts[choice]
        match event:
            case Started(reused=reused):
                count.cached = reused
            case TokenOut(index=index):
                count.completion = index + 1
            case Finished(usage=usage):
                count.completion, count.cached = usage.completion, usage.reused
                count.end = event

    def of(self, choice: int) -> UsageCounts:
        """Return one choice's counts so far."""
        return self._sum([self._counts[choice : choice + 1]])

    def total(self) -> UsageCounts:
        """Return the whole request's counts so far."""
        starts = range(0, len(self._counts), self._choices_per_prompt)
        return self._sum([self._counts[start : start + self._choices_per_prompt] for start in starts])

    def _sum(self, groups: Sequence[Sequence[_Count]]) -> UsageCounts:
        prompt = sum(group[0].prompt for group in groups)
        completion = sum(count.completion for group in groups for count in group)
        # A request's first choice computes what the others reuse of it, and only that was not there before.
        cached = sum(min(count.cached for count in group) for group in groups)
        counts: UsageCounts = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        ends = [count.end for group in groups for count in group]
        known = [end for end in ends if end is not None]
        if len(known) == len(ends):
            counts["fastswitch"] = self._figures(known)
        return counts

    def _figures(self, ends: Sequence[Finished]) -> SwitchFigures:
        return {
            "queue_s": max(end.timings.queue_s or 0.0 for end in ends),
            "stall_s": max(end.timings.stall_s for end in ends),
            "preemptions": sum(end.usage.preemptions for end in ends),
            "recomputed_tokens": sum(end.usage.recomputed for end in ends),
            "swapped_bytes": sum(end.usage.swapped_blocks for end in ends) * self._block_bytes,
        }
