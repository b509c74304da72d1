"""Compaction makes free device blocks contiguous, so that new groups are long and their swaps take few copies.

Moves are planned last, when all requests have their blocks and the plan's copies are known, and carried out first in
the step: its block tables name the destinations already. A block under copy does not move. Sources are free from the
next plan on, whose copies and rows come after the moves.
"""

from allocator import Move
from service.core.messages.events import Compacted
from service.core.state.ledger import Ledger
from service.core.switching.poison import Poison

BLOCKS_A_STEP = 64  # a whole initial group of the default length moves at once


class Compaction:
    """Moves groups when no free extent is as long as an initial group although enough blocks for two are free."""

    def __init__(self, ledger: Ledger, poison: Poison | None = None) -> None:
        self._ledger = ledger
        self._poison = poison

    def moves(self) -> tuple[Move, ...]:
        """Plan the moves of this step, at most `BLOCKS_A_STEP` blocks."""
        device = self._ledger.memory.device
        if device.largest_free >= device.initial_group or device.num_free < 2 * device.initial_group:
            return ()
        if self._poison is not None:
            self._poison.look()
        moves = self._ledger.memory.compact(BLOCKS_A_STEP)
        if self._poison is not None:
            self._poison.follow(moves)
        if moves:
            self._ledger.emit(Compacted(sum(move.length for move in moves)))
        return moves
