"""Plans and tickets as core would make them, built without a core."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from allocator import BLOCK_TOKENS, DEVICE, HOST, Direction, Extent, Ticket
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams

SAMPLING = SamplingParams(seed=0, top_p=0.95)

BlockRun = tuple[int, int, int]  # device block, host block, length


@dataclass(frozen=True, slots=True)
class Decoding:
    """Steps that only decode: ``batch`` sequences of ``context`` tokens, each one token longer after a step.

    The KV is used as it stands, for its numbers do not change how long a step takes.
    """

    batch: int
    context: int
    steps: int
    first_block: int = 0

    @property
    def blocks_each(self) -> int:
        """Blocks of one sequence after the last step."""
        return -(-(self.context + self.steps) // BLOCK_TOKENS)

    @property
    def blocks(self) -> int:
        """Blocks of all sequences, and those before ``first_block``."""
        return self.first_block + self.batch * self.blocks_each

    def plans(self) -> Iterator[StepPlan]:
        """Yield a plan a step; the first opens the slots."""
        extents = [
            (Extent(DEVICE, start, self.blocks_each),)
            for start in range(self.first_block, self.blocks, self.blocks_each)
        ]
        opened = tuple(SlotOpening.of(slot, (1, 2), 1, SAMPLING) for slot in range(self.batch))
        for number in range(self.steps):
            rows = tuple(Row(slot, self.context - 1 + number, None, extents[slot], True) for slot in range(self.batch))
            yield StepPlan(number, () if number else opened, rows)


def ticket(direction: Direction, runs: Sequence[BlockRun], number: int = 0) -> Ticket:
    """Return a ticket that copies these runs of blocks."""
    device = tuple(Extent(DEVICE, start, length) for start, _, length in runs)
    host = tuple(Extent(HOST, start, length) for _, start, length in runs)
    source, destination = (device, host) if direction is Direction.OUT else (host, device)
    return Ticket(number, number, direction, 0, source, destination, 16, 0)
