"""Estimates, for decisions, of what copying and computing will cost, learned from what they have cost.

They lean to the last copies and steps, and are None before the first. Large copies and prefills weigh more than small
ones.
"""

from allocator import Direction

WEIGHT = 0.2  # of the newest step
COPY_WEIGHT = 0.1  # of the newest copy: two costs need more observations than one
FADING = 0.02  # of an estimate that keeps copies from being made


class Costs:
    """What a copy costs in each direction, a step of decodes and a prefilled token, and what is queued on the link."""

    def __init__(self) -> None:
        self._copies = {direction: _CopyCost() for direction in Direction}
        self._queued = dict.fromkeys(Direction, (0, 0))  # pieces and blocks under copy
        self._decode_s: float | None = None  # a step of decodes
        self._prefill = _Rate()

    def copy_issued(self, direction: Direction, pieces: int, blocks: int) -> None:
        """Count a copy that joins the link's queue."""
        self._queue(direction, pieces, blocks)

    def copy_ended(self, direction: Direction, pieces: int, blocks: int, seconds: float | None) -> None:
        """Count a copy that has left the queue, after ``seconds`` of its own. None: it failed, which shows no speed."""
        self._queue(direction, -pieces, -blocks)
        if seconds is not None:
            self._copies[direction].observe(pieces, blocks, seconds)

    def copy_spared(self, direction: Direction) -> None:
        """Note a copy not made because of its estimate, which fades if no queued copy could correct it."""
        if self._queued[direction] == (0, 0):
            self._copies[direction].fade()

    def step_ended(self, device_s: float, tokens: int, prefill_tokens: int) -> None:
        """Note that a step took ``device_s``. It shows what prefill costs if it is mostly that, else what decodes do.

        A mean over both kinds would let one large prefill lengthen all waits after it.
        """
        if 2 * prefill_tokens > tokens:
            self._prefill.observe(device_s, tokens)
        else:
            self._decode_s = _blend(self._decode_s, device_s, WEIGHT)

    def step_s(self, prefill_tokens: int) -> float | None:
        """Return the seconds of a step of decodes, which take about the same for any number of rows, and of prefill.

        None if nothing is known of what it has.
        """
        if not prefill_tokens:
            return self._decode_s
        prefill_s = self._prefill.seconds(prefill_tokens)
        if self._decode_s is None or prefill_s is None:
            return prefill_s
        return self._decode_s + prefill_s

    def copy_s(self, direction: Direction, more_blocks: int = 0) -> float | None:
        """Return the seconds until the link has copied what is queued and ``more_blocks``; None if unknown."""
        pieces, blocks = self._queued[direction]
        return self._copies[direction].seconds(pieces, blocks, more_blocks)

    def queued_s(self) -> float | None:
        """Return the seconds until the link has copied all that is queued, both directions at once; None if unknown."""
        waits = [self.copy_s(direction) for direction, (_, blocks) in self._queued.items() if blocks]
        known = [wait for wait in waits if wait is not None]
        return max(known) if known and len(known) == len(waits) else None

    def prefill_tokens(self, seconds: float) -> int | None:
        """Return how many tokens are prefilled in so many seconds; None if unknown."""
        token_s = self._prefill.seconds(1)
        return None if not token_s else int(seconds / token_s)

    def recompute_s(self, tokens: int) -> float | None:
        """Return the seconds for computing the KV of ``tokens`` tokens; None if unknown."""
        return self._prefill.seconds(tokens)

    def _queue(self, direction: Direction, pieces: int, blocks: int) -> None:
        before = self._queued[direction]
        self._queued[direction] = before[0] + pieces, before[1] + blocks


class _CopyCost:
    """Seconds a piece and a block: least squares over the last copies, with neither cost below 0.

    ``seconds = piece_s * pieces + block_s * blocks``. Where all copies have the same blocks a piece, the two cannot be
    told apart, and all is the blocks' cost.
    """

    def __init__(self) -> None:
        self._pp = self._pb = self._bb = 0.0  # faded sums of products: pieces, blocks
        self._ps = self._bs = 0.0  # and of those with seconds
        self._pieces = self._blocks = 0.0

    def observe(self, pieces: int, blocks: int, seconds: float) -> None:
        kept = 1 - COPY_WEIGHT
        self._pp = kept * self._pp + pieces * pieces
        self._pb = kept * self._pb + pieces * blocks
        self._bb = kept * self._bb + blocks * blocks
        self._ps = kept * self._ps + pieces * seconds
        self._bs = kept * self._bs + blocks * seconds
        self._pieces = kept * self._pieces + pieces
        self._blocks = kept * self._blocks + blocks

    def fade(self) -> None:
        self._ps *= 1 - FADING
        self._bs *= 1 - FADING

    def seconds(self, pieces: int, blocks: int, more_blocks: int) -> float | None:
        """Return the seconds for known copies and for ``more_blocks`` in as many pieces as blocks mostly come in."""
        if not self._blocks:
            return None
        piece_s, block_s = self._fit()
        more_pieces = more_blocks * self._pieces / self._blocks
        return piece_s * (pieces + more_pieces) + block_s * (blocks + more_blocks)

    def _fit(self) -> tuple[float, float]:
        determinant = self._pp * self._bb - self._pb * self._pb
        if determinant > 1e-6 * self._pp * self._bb:
            piece_s = (self._ps * self._bb - self._bs * self._pb) / determinant
            block_s = (self._bs * self._pp - self._ps * self._pb) / determinant
            if piece_s >= 0 and block_s >= 0:
                return piece_s, block_s
        if self._ps * self._ps * self._bb > self._bs * self._bs * self._pp * (1 + 1e-9):  # pieces alone explain more
            return self._ps / self._pp, 0.0
        return 0.0, self._bs / self._bb


class _Rate:
    """Seconds per unit: mean seconds of an observation over its mean units, so that small ones weigh little."""

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._units: float | None = None

    def observe(self, seconds: float, units: int) -> None:
        self._seconds, self._units = _blend(self._seconds, seconds, WEIGHT), _blend(self._units, units, WEIGHT)

    def seconds(self, units: int) -> float | None:
        if self._seconds is None or self._units is None:
            return None
        return units * self._seconds / self._units


def _blend(mean: float | None, newest: float, weight: float) -> float:
    return newest if mean is None else (1 - weight) * mean + weight * newest
