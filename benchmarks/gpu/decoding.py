"""Steps of decodes alone, over sequences of a given length: KV is taken as it is, for its numbers do not matter."""

from collections.abc import Iterator
from dataclasses import dataclass

from allocator import BLOCK_TOKENS, DEVICE, Extent
from service.core.messages.plan import Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams

SAMPLING = SamplingParams(seed=0, top_p=0.95)


@dataclass(frozen=True, slots=True)
class Decoding:
    """``batch`` sequences of ``context`` tokens, which each of up to ``steps`` steps makes one longer."""

    batch: int
    context: int
    steps: int
    first_block: int = 0

    @property
    def blocks_each(self) -> int:
        """Of a sequence at its end."""
        return -(-(self.context + self.steps) // BLOCK_TOKENS)

    @property
    def blocks(self) -> int:
        """Of all."""
        return self.first_block + self.batch * self.blocks_each

    def plans(self) -> Iterator[StepPlan]:
        """The first opens the slots."""
        extents = [
            (Extent(DEVICE, start, self.blocks_each),)
            for start in range(self.first_block, self.blocks, self.blocks_each)
        ]
        opened = tuple(SlotOpening.of(slot, (1, 2), 1, SAMPLING) for slot in range(self.batch))
        for number in range(self.steps):
            rows = tuple(Row(slot, self.context - 1 + number, None, extents[slot], True) for slot in range(self.batch))
            yield StepPlan(number, () if number else opened, rows)
