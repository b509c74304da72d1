"""A data plane without a model: its KV are hashes, and it draws tokens from them.

The same core, engine and API run on it. Each block holds, for each of its tokens, a hash of the sequence up to that
token, and every row follows the chain through its blocks: a block that was freed too early, has two owners or was never
written breaks the chain and raises `PlanError`. A token depends on the sequence before it and on the request's seed, so
any schedule must give the same answers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from allocator import BLOCK_TOKENS, Extent
from service.core.messages.plan import Drawn, Row, SlotOpening, StepPlan, StepResult
from service.core.messages.ports import DirectRunner
from service.simulation.pools import Block, HashPools


class PlanError(RuntimeError):
    """A plan that no data plane could carry out."""


@dataclass(frozen=True, slots=True)
class StepCost:
    """Modelled seconds: a fixed part for each step and a part for each query token."""

    step_s: float = 0.0
    token_s: float = 0.0

    def of(self, plan: StepPlan) -> float:
        """Return the seconds that a plan takes."""
        return self.step_s + self.token_s * plan.num_tokens


class SimulatedRunner(DirectRunner):
    """Runs plans on hashes. ``cost`` is reported as the step's device time, without waiting for it.

    ``pools`` are shared with the copier, if there is one. `service.core.messages.ports.Runner` explains ``depth``.
    """

    def __init__(
        self, vocab_size: int, cost: StepCost | None = None, pools: HashPools | None = None, depth: int = 0
    ) -> None:
        self.depth = depth
        self._vocab_size = vocab_size
        self._cost = cost or StepCost()
        self._seeds: dict[int, int] = {}  # slot -> seed
        self._last: dict[int, int] = {}  # slot -> newest token
        self._pools = pools or HashPools()
        self._blocks = self._pools.device

    def poison(self, extents: Sequence[Extent]) -> None:
        """Forget the contents of blocks."""
        self._pools.poison(extents)

    def launch(self, plan: StepPlan) -> Callable[[], StepResult]:
        """Run the plan at once, since later plans read what it writes."""
        result = self.run(plan)
        return lambda: result

    def run(self, plan: StepPlan) -> StepResult:
        """Run all rows of a plan."""
        self._pools.move(plan.moves)
        for opening in plan.opened:
            self._open(opening)
        ends = [(row, self._write(row)) for row in plan.rows]
        drawn = [self._draw(row, end) for row, end in ends if row.draws_token]
        return StepResult(plan.number, drawn, self._cost.of(plan))

    def _open(self, opening: SlotOpening) -> None:
        self._seeds[opening.slot] = opening.sampling_params.seed
        self._last[opening.slot] = opening.last_token

    def _write(self, row: Row) -> int:
        """Store the row's tokens. Return the hash after the last one."""
        table = _block_table(row.extents)
        if row.start + row.num_tokens > len(table) * BLOCK_TOKENS:
            raise PlanError(f"{row.request_id}: ends at {row.start + row.num_tokens}, has {len(table)} blocks")
        running = self._walk(row, table)
        tokens = (self._last[row.slot],) if row.tokens is None else row.tokens
        for position, token in enumerate(tokens, row.start):
            block = self._block_at(table, position, running)
            running = hash((running, token))
            block.hashes.append(running)
        return running

    def _walk(self, row: Row, table: Sequence[int]) -> int:
        """Follow the chain up to ``row.start`` and return its hash. Later tokens in the blocks are ignored."""
        running = 0
        for first in range(0, row.start, BLOCK_TOKENS):
            block = self._blocks.get(table[first // BLOCK_TOKENS])
            known = min(BLOCK_TOKENS, row.start - first)
            if block is None or block.before != running or len(block.hashes) < known:
                raise PlanError(f"{row.request_id}: KV at {first} is not this sequence's")
            running = block.hashes[known - 1]
        return running

    def _block_at(self, table: Sequence[int], position: int, running: int) -> Block:
        index, offset = divmod(position, BLOCK_TOKENS)
        if offset == 0:
            self._blocks[table[index]] = Block(running)
        block = self._blocks[table[index]]
        del block.hashes[offset:]
        return block

    def _draw(self, row: Row, end: int) -> Drawn:
        token = hash((end, self._seeds[row.slot])) % self._vocab_size
        self._last[row.slot] = token
        return Drawn(row.slot, token)


def _block_table(extents: Sequence[Extent]) -> list[int]:
    return [block for extent in extents for block in range(extent.start, extent.end)]
