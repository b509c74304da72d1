"""A token bucket: tokens spent, forgotten at a constant rate.

The bucket holds a minute's tokens. A prompt is charged when it comes, an answer while it grows, so that nobody pays
for what was not generated; a long one may overdraw, and then nothing new is let in until the debt is forgotten. A
prompt larger than the bucket passes when the bucket is full, rather than never. The limit is an argument: it may
change.
"""


class Spending:
    """What one tenant has spent of its minute. ``now`` in seconds of any steady clock."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._as_of = 0.0

    def add(self, tokens: int, per_minute: int, now: float) -> None:
        """Spend; negative gives back."""
        self._forget(per_minute, now)
        self._spent += tokens

    def left(self, per_minute: int, now: float) -> float:
        """Tokens that may be spent now; below 0 it is debt."""
        self._forget(per_minute, now)
        return per_minute - self._spent

    def wait_s(self, tokens: int, per_minute: int, now: float) -> float:
        """Seconds until ``tokens`` may be spent; 0 is now."""
        missing = min(tokens, per_minute) - self.left(per_minute, now)
        return max(0.0, missing * 60 / per_minute)

    def _forget(self, per_minute: int, now: float) -> None:
        self._spent = max(0.0, self._spent - (now - self._as_of) * per_minute / 60)
        self._as_of = now
