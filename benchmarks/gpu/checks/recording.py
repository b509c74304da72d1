"""Steps planned by the service's core and recorded with the CPU's draws. Every backend must draw the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from service.cli import wiring
from service.config import ServeSettings
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.plan import Drawn, StepPlan
from service.core.messages.sampling import SamplingParams
from service.execution.kv import KVPools
from service.execution.models.architecture import ModelConfig
from service.execution.models.weights import ModelWeights
from service.execution.runner import CPURunner

PLAIN = (
    SamplingParams(temperature=0),
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=0.7, top_k=40, top_p=0.9, min_p=0.01),
)
ADJUSTED = (
    SamplingParams(seed=3, presence_penalty=0.5, frequency_penalty=0.2, repetition_penalty=1.1),
    SamplingParams(seed=4, logit_bias={5: 4.0, 17: -100.0}, logprobs=5),
)


@dataclass(frozen=True, slots=True)
class RecordingSizes:
    """Sizes of the requests and of the engine that runs them.

    ``together``: requests that arrive in a step. With few, prompts and decodes share steps, in batches that vary.
    """

    requests: int
    prompt: int  # tokens, at most
    answer: int
    slots: int
    budget: int  # tokens a step
    together: int = 2

    @property
    def blocks(self) -> int:
        """Blocks that hold all requests at once."""
        return self.requests * (-(-(self.prompt + self.answer) // 16) + 1)


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """A plan, and what the CPU drew for it."""

    plan: StepPlan
    drawn: Sequence[Drawn]


def record_steps(
    config: ModelConfig, weights: ModelWeights, sizes: RecordingSizes, samplings: Sequence[SamplingParams]
) -> list[RecordedStep]:
    """Return all steps until every request has its answer. ``weights`` are float32 and in the host's memory."""
    settings = ServeSettings(
        policy="fcfs", max_num_seqs=sizes.slots, max_num_batched_tokens=sizes.budget, block_group_size=3
    )
    core = Core(wiring.core_settings(settings, sizes.blocks, host_blocks=0), wiring.policy(settings))
    runner = CPURunner(
        config,
        weights,
        pools=KVPools.plain(config, sizes.blocks),
        num_slots=sizes.slots,
        max_batched_tokens=sizes.budget,
    )
    arriving = _requests(config, sizes, samplings)
    recorded: list[RecordedStep] = []
    now = 0.0
    while True:
        for _ in range(min(sizes.together, len(arriving))):
            core.submit(arriving.pop(), now)
        plan = core.plan(now)
        if plan is None:
            return recorded
        result = runner.run(plan)
        core.commit(result, {}, now)
        core.events()
        recorded.append(RecordedStep(plan, result.drawn))
        now += 1


def _requests(config: ModelConfig, sizes: RecordingSizes, samplings: Sequence[SamplingParams]) -> list[Submit]:
    random = Random(0)
    return [
        Submit(
            f"r{number}",
            tuple(random.randrange(config.vocab_size) for _ in range(random.randint(1, sizes.prompt))),
            sizes.answer,
            samplings[number % len(samplings)],
            frozenset(),
            None,
        )
        for number in range(sizes.requests)
    ]
