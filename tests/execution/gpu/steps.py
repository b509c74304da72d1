"""Plans of a small core for two runners, and a GPU's runner on a simulated device.

`script` plays conversations on the CPU's runner and notes each plan with its result: prompts in chunks, decodes, rows
that skip a step, slots that change requests while others go on, requests that resume in another slot. Any runner must
give the same results.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from random import Random
from types import ModuleType
from typing import Any

import numpy as np

from allocator import Extent
from kernels import cpu
from service.core.messages.plan import Drawn, Row, SlotOpening, StepPlan
from service.core.messages.sampling import SamplingParams
from service.execution.gpu.pools import GPUPools
from service.execution.gpu.runner import GPURunner
from service.execution.gpu.simulated.faults import Faults
from service.execution.gpu.simulated.runtime import SimulatedRuntime
from service.execution.kv import KVPools
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from service.execution.runner import CPURunner
from tests.execution.gpu.data_plane import write

SLOTS, BLOCKS, BUDGET = 6, 64, 40
BLOCKS_EACH = 6

SETTINGS = {
    "greedy": SamplingParams(temperature=0),
    "seeded": SamplingParams(temperature=1.3, seed=5),
    "filtered": SamplingParams(temperature=0.9, seed=6, top_k=20, top_p=0.8, min_p=0.01),
    "penalized": SamplingParams(seed=7, presence_penalty=0.5, frequency_penalty=0.3, repetition_penalty=1.2),
    "biased": SamplingParams(seed=8, logit_bias={3: 4.0, 200: 5.0, 7: -100.0}),
    "reported": SamplingParams(seed=9, logprobs=3),
    "everything": SamplingParams(
        seed=-2, top_k=50, top_p=0.9, repetition_penalty=1.3, logit_bias={5: 3.0}, logprobs=20, presence_penalty=-0.5
    ),
}
PLAIN = [SETTINGS[name] for name in ("greedy", "seeded", "filtered")]
ALL = list(SETTINGS.values())

Script = list[tuple[StepPlan, Sequence[Drawn]]]


@dataclass
class _Sequence:
    """One conversation: its slot, its blocks, its tokens, and how many of them are computed."""

    slot: int
    tokens: list[int]
    prompt_length: int
    sampling: SamplingParams
    blocks: tuple[Extent, ...]
    computed: int = 0

    @property
    def opening(self) -> SlotOpening:
        return SlotOpening.of(self.slot, tuple(self.tokens), self.prompt_length, self.sampling)

    def row(self, most: int) -> Row:
        """Return its next chunk of at most so many tokens, or its next decode."""
        left = len(self.tokens) - self.computed
        decodes = left == 1 and self.computed >= self.prompt_length
        count = min(left, most)
        tokens = None if decodes else tuple(self.tokens[self.computed : self.computed + count])
        extents = self.blocks[: -(-(self.computed + count) // 16)]
        row = Row(self.slot, self.computed, tokens, extents, draws_token=count == left)
        self.computed += count
        return row


def script(
    config: ModelConfig, weights: ModelWeights, steps: int, settings: Sequence[SamplingParams], seed: int = 0
) -> Script:
    """Return so many steps, drawn from a seed."""
    runner = _cpu_runner(config, weights)
    core = _Core(Random(seed), config.vocab_size, settings)
    plays: Script = []
    for number in range(steps):
        plan = core.plan(number)
        plays.append((plan, runner.run(plan).drawn))
        core.commit(plays[-1][1])
    return plays


def played(config: ModelConfig, weights: ModelWeights, *plans: StepPlan, kernels: ModuleType = cpu) -> Script:
    """Return these plans with their results."""
    runner = _cpu_runner(config, weights, kernels)
    return [(plan, runner.run(plan).drawn) for plan in plans]


def _cpu_runner(config: ModelConfig, weights: ModelWeights, kernels: ModuleType = cpu) -> CPURunner:
    sizes = {"pools": KVPools.plain(config, BLOCKS), "num_slots": SLOTS, "max_batched_tokens": BUDGET}
    return CPURunner(config, weights, kernels=kernels, **sizes)


class _Core:
    def __init__(self, random: Random, vocab_size: int, settings: Sequence[SamplingParams]) -> None:
        self._random, self._vocab_size, self._settings = random, vocab_size, settings
        self._free = [Extent(0, block, 1) for block in random.sample(range(BLOCKS), BLOCKS)]
        self._live: dict[int, _Sequence] = {}
        self._begun = 0

    def plan(self, number: int) -> StepPlan:
        opened = []
        for slot in range(SLOTS):
            here = self._live.get(slot)
            if here is None or len(here.tokens) > 16 * BLOCKS_EACH - 2 or self._random.random() < 0.05:
                opened.append(self._change_hands(slot))
        return StepPlan(number, tuple(opened), tuple(self._rows()))

    def _change_hands(self, slot: int) -> SlotOpening:
        """End the slot's request, or have it leave and resume, or replace it by another."""
        here = self._live.pop(slot, None)
        if here is not None and here.computed >= here.prompt_length and self._random.random() < 0.5:
            self._live[slot] = here  # with its KV in place
            return here.opening
        if here is not None:
            self._free += here.blocks
        length = self._random.randint(1, 60)
        tokens = [self._random.randrange(self._vocab_size) for _ in range(length)]
        sampling = replace(self._settings[self._begun % len(self._settings)], seed=self._begun)
        self._begun += 1
        blocks, self._free = self._free[:BLOCKS_EACH], self._free[BLOCKS_EACH:]
        self._live[slot] = _Sequence(slot, tokens, length, sampling, tuple(blocks))
        return self._live[slot].opening

    def _rows(self) -> Iterable[Row]:
        left = BUDGET
        for sequence in self._random.sample(list(self._live.values()), SLOTS):
            if left and self._random.random() < 0.9:
                row = sequence.row(min(left, self._random.choice((1, 7, 16, 33))))
                left -= row.num_tokens
                yield row

    def commit(self, drawn: Sequence[Drawn]) -> None:
        for token in drawn:
            assert not token.invalid
            self._live[token.slot].tokens.append(token.token)


def on_device(runtime: SimulatedRuntime, weights: ModelWeights, dtype: Any = np.float32) -> ModelWeights:
    """Return the same weights on the device."""

    def put(values: np.ndarray) -> Any:
        with runtime.bound():
            array = runtime.empty(values.shape, dtype)
        write(runtime, array, values)
        return array

    return each_array(weights, put)


def each_array(weights: ModelWeights, make: Callable[[np.ndarray], Any]) -> ModelWeights:
    """Return weights made of each array by ``make``, called once for an array that is used twice."""
    made: dict[int, Any] = {}

    def rebuild(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(rebuild, value))
        if is_dataclass(value):
            return type(value)(*(rebuild(getattr(value, field.name)) for field in fields(value)))
        if isinstance(value, np.ndarray) and id(value) not in made:
            made[id(value)] = make(value)
        return made.get(id(value))

    rebuilt: ModelWeights = rebuild(weights)
    return rebuilt


class Device:
    """A simulated device with a model and its runner."""

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        faults: Faults | None = None,
        dtype: Any = np.float32,
        slots: int = SLOTS,
        budget: int = BUDGET,
        **options: Any,
    ) -> None:
        self.runtime = SimulatedRuntime(faults=faults, **options)
        self.pools = GPUPools(self.runtime, config, dtype, device_blocks=BLOCKS, host_blocks=0)
        with self.runtime.bound():
            self.stream = self.runtime.stream(urgent=True)
        self.runner = GPURunner(
            config,
            on_device(self.runtime, weights, dtype),
            self.runtime,
            self.pools,
            self.stream,
            num_slots=slots,
            max_batched_tokens=budget,
        )

    def play(self, plays: Script, depth: int = 1) -> list[Sequence[Drawn]]:
        """Return the results of a script's plans, each launched while ``depth`` earlier results are not known."""
        results: list[Sequence[Drawn]] = []
        awaited: list[Callable] = []
        for plan, _ in plays:
            awaited.append(self.runner.launch(plan))
            if len(awaited) > depth:
                results.append(awaited.pop(0)().drawn)
        return results + [result().drawn for result in awaited]


def expected(plays: Script) -> list[Sequence[Drawn]]:
    """Return the results of the CPU's runner for a script's plans."""
    return [drawn for _, drawn in plays]
