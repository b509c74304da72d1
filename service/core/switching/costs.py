"""Estimates, for decisions, of what copying and computing will cost, learned from what they have cost.

They are exponential means over the last copies and steps, in which large ones weigh more, and None before the first.
"""

from allocator import Direction

WEIGHT = 0.2  # of the newest observation
FADING = 0.02  # of an estimate that keeps copies from being made


class Costs:
    """Seconds per block in each direction, per step and per prefilled token, and the blocks queued on the link."""

    def __init__(self) -> None:
        self._blocks = {direction: _Rate() for direction in Direction}
        self._prefill = _Rate()
        self._queued = {Direction.OUT: 0, Direction.IN: 0}  # blocks under copy
        self.step_s: float | None = None

    def copy_issued(self, direction: Direction, blocks: int) -> None:
        """Count a copy that joins the link's queue."""
        self._queued[direction] += blocks

    def copy_ended(self, direction: Direction, blocks: int, seconds: float | None) -> None:
        """Count a copy that has left the queue, after ``seconds`` of its own. None: it failed, which shows no speed."""
        self._queued[direction] -= blocks
        if seconds is not None:
            self._blocks[direction].observe(seconds, blocks)

    def copy_spared(self, direction: Direction) -> None:
        """Note a copy not made because of its estimate, which fades if no queued copy could correct it."""
        if not self._queued[direction]:
            self._blocks[direction].fade()

    def step_ended(self, device_s: float, tokens: int, prefill_tokens: int) -> None:
        """Note that a step took ``device_s``. One that is mostly prefill shows what a prefilled token costs."""
        self.step_s = _blend(self.step_s, device_s)
        if 2 * prefill_tokens > tokens:
            self._prefill.observe(device_s, tokens)

    def copy_s(self, direction: Direction, more_blocks: int = 0) -> float | None:
        """Return the seconds until the link has copied what is queued and ``more_blocks``; None if unknown."""
        return self._blocks[direction].seconds(self._queued[direction] + more_blocks)

    def queued_s(self) -> float | None:
        """Return the seconds until the link has copied all that is queued, both directions at once; None if unknown."""
        waits = [self.copy_s(direction) for direction, blocks in self._queued.items() if blocks]
        known = [wait for wait in waits if wait is not None]
        return max(known) if known and len(known) == len(waits) else None

    def recompute_s(self, tokens: int) -> float | None:
        """Return the seconds for computing the KV of ``tokens`` tokens; None if unknown."""
        return self._prefill.seconds(tokens)


class _Rate:
    """Seconds per unit: mean seconds of an observation over its mean units, so that small ones weigh little."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._units: float | None = None

    def observe(self, seconds: float, units: int) -> None:
        self._seconds, self._units = _blend(self._seconds, seconds), _blend(self._units, units)

    def fade(self) -> None:
        if self._seconds is not None:
            self._seconds *= 1 - FADING

    def seconds(self, units: int) -> float | None:
        if self._seconds is None or self._units is None:
            return None
        return units * self._seconds / self._units


def _blend(mean: float | None, newest: float) -> float:
    return newest if mean is None else (1 - WEIGHT) * mean + WEIGHT * newest
