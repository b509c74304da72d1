"""Counts a request's tokens while it is answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.api.responses import UsageCounts
from service.core.events import Event, Finished, Started, TokenOut


@dataclass(slots=True)
class _Count:
    prompt: int
    completion: int = 0
    cached: int = 0


class Tally:
    """Counts by choice.

    ``prompts``: each choice's prompt tokens. Every ``choices_a_prompt`` choices in a row share a prompt.
    """

    def __init__(self, prompts: Iterable[int], choices_a_prompt: int) -> None:
        self._counts = [_Count(prompt) for prompt in prompts]
        self._choices_a_prompt = choices_a_prompt

    def note(self, choice: int, event: Event) -> None:
        """Take one of the choice's events in."""
        count = self._counts[choice]
        match event:
            case Started(reused=reused):
                count.cached = reused
            case TokenOut(index=index):
                count.completion = index + 1
            case Finished(usage=usage):
                count.completion, count.cached = usage.completion, usage.reused

    def of(self, choice: int) -> UsageCounts:
        """One choice's, so far."""
        return self._sum([self._counts[choice : choice + 1]])

    def total(self) -> UsageCounts:
        """The whole request's, so far."""
        starts = range(0, len(self._counts), self._choices_a_prompt)
        return self._sum([self._counts[start : start + self._choices_a_prompt] for start in starts])

    @staticmethod
    def _sum(groups: Sequence[Sequence[_Count]]) -> UsageCounts:
        prompt = sum(group[0].prompt for group in groups)
        completion = sum(count.completion for group in groups for count in group)
        cached = sum(max(count.cached for count in group) for group in groups)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
        }
