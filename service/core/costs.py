"""What copying and computing cost, learned from what they have cost: estimates for decisions, never promises.

Exponential means over the last copies and steps; None until there is something to go by.
"""

from allocator import Direction

WEIGHT = 0.2  # of the newest observation


class Costs:
    """Seconds a block and direction, seconds a step, seconds a prefilled token; and what is queued on the link."""

    def __init__(self) -> None:
        self._block_s: dict[Direction, float] = {}
        self._queued = {Direction.OUT: 0, Direction.IN: 0}  # blocks under copy
        self.step_s: float | None = None
        self.prefill_token_s: float | None = None

    def copy_issued(self, direction: Direction, blocks: int) -> None:
        """A copy joins the link's queue."""
        self._queued[direction] += blocks

    def copy_ended(self, direction: Direction, blocks: int, seconds: float | None) -> None:
        """A copy has left it, after ``seconds`` of its own; None: it failed, which tells nothing of the link."""
        self._queued[direction] -= blocks
        if seconds is not None:
            self._block_s[direction] = _blend(self._block_s.get(direction), seconds / blocks)

    def step_ended(self, device_s: float, tokens: int, prefill_tokens: int) -> None:
        """A step took ``device_s``; one that is mostly prefill tells what a prefilled token costs."""
        self.step_s = _blend(self.step_s, device_s)
        if 2 * prefill_tokens > tokens:
            self.prefill_token_s = _blend(self.prefill_token_s, device_s / tokens)

    def copy_s(self, direction: Direction, more_blocks: int = 0) -> float | None:
        """When the link will have copied what is queued and ``more_blocks``, in seconds from now."""
        block_s = self._block_s.get(direction)
        return None if block_s is None else (self._queued[direction] + more_blocks) * block_s

    def queued_s(self) -> float | None:
        """When the link will have copied all that is queued, both directions at once; None: not known."""
        waits = [self.copy_s(direction) for direction, blocks in self._queued.items() if blocks]
        known = [wait for wait in waits if wait is not None]
        return max(known) if known and len(known) == len(waits) else None

    def recompute_s(self, tokens: int) -> float | None:
        """How long computing that many tokens' KV takes."""
        return None if self.prefill_token_s is None else tokens * self.prefill_token_s


def _blend(mean: float | None, seconds: float) -> float:
    return seconds if mean is None else (1 - WEIGHT) * mean + WEIGHT * seconds
