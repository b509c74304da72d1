"""A token bucket: spent tokens are forgotten at a constant rate.

The bucket holds a minute's tokens. A prompt is charged when it arrives and an answer while it grows, so that only
generated tokens are paid for. A long answer may overdraw the bucket; no request is then admitted until the debt is
forgotten. A prompt larger than the bucket passes when the bucket is full, rather than never. The limit is an argument,
because it may change.
"""


class Spending:
    """What one tenant has spent of its minute. ``now`` is in seconds of any steady clock."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._as_of = 0.0

    def add(self, tokens: int, per_minute: int, now: float) -> None:
        """Spend tokens; a negative number gives them back."""
        self._forget(per_minute, now)
        self._spent += tokens

    def left(self, per_minute: int, now: float) -> float:
        """Return the tokens that may be spent now; a negative number is debt."""
        self._forget(per_minute, now)
        return per_minute - self._spent

    def wait_s(self, tokens: int, per_minute: int, now: float) -> float:
        """Return the seconds until ``tokens`` may be spent, 0 if they may be now."""
        missing = min(tokens, per_minute) - self.left(per_minute, now)
        return max(0.0, missing * 60 / per_minute)

    def _forget(self, per_minute: int, now: float) -> None:
        self._spent = max(0.0, self._spent - (now - self._as_of) * per_minute / 60)
        self._as_of = now
