"""Core driven at random on too little memory: everyone finishes, with the tokens of an undisturbed run.

The machine draws its settings (presets, policies, a link that is slow, out of order or fails) and actions; allocator,
residency, swaps and scheduler are checked after every action. Truncation comes with next turns that agree with less
than the session has, and with stop strings.
"""

import os
from collections import Counter
from functools import cache
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from service.core.commands import Submit
from service.core.core import Core, CoreSettings
from service.core.events import Finished, FinishReason, Refused
from service.core.mechanisms import PRESETS
from service.core.policies import POLICIES
from service.core.priority_trace import TraceSettings
from service.core.ranking import Patience
from service.core.sampling import SamplingParams
from service.simulation.copier import Link, SimulatedCopier
from service.simulation.driver import Simulation
from service.simulation.pools import HashPools
from service.simulation.runner import SimulatedRunner, StepCost

VOCAB = 50
BLOCKS = 12


def simulation(policy: str, blocks: int, link: Link | None = None, **settings: object) -> Simulation:
    sizes = CoreSettings(device_blocks=blocks, block_group_size=4, session_ttl_s=40, **settings)  # type: ignore[arg-type]
    core = Core(sizes, POLICIES[policy](TraceSettings(update_every=3)))
    pools = HashPools()
    return Simulation(core, SimulatedRunner(VOCAB, StepCost(step_s=1.0), pools), SimulatedCopier(pools, link))


@cache
def undisturbed(prompt: tuple[int, ...], max_tokens: int, seed: int) -> list[int]:
    sim = simulation("fcfs", 1000)
    sim.submit(Submit("alone", prompt, max_tokens, SamplingParams(seed=seed), frozenset(), None))
    sim.run()
    return sim.answers["alone"]


class CoreMachine(RuleBasedStateMachine):
    """Arrivals, next turns, cancels and time, in any order, over a link that is slow, out of order, and fails."""

    @initialize(
        policy=st.sampled_from(sorted(POLICIES)),
        slots=st.integers(1, 5),
        budget=st.integers(5, 40),
        host_blocks=st.sampled_from([0, 5, 20, 60]),
        preset=st.sampled_from(sorted(PRESETS)),
        quantum=st.integers(0, 3),
        evict_every=st.sampled_from([None, None, 1, 7]),
        link=st.builds(
            Link,
            block_s=st.sampled_from([0.0, 0.05, 2.0]),
            delay_s=st.sampled_from([0.0, 10.0]),
            reorder=st.booleans(),
            failure=st.sampled_from([0.0, 0.0, 0.3, 1.0]),
        ),
    )
    def start(
        self,
        policy: str,
        slots: int,
        budget: int,
        host_blocks: int,
        preset: str,
        quantum: int,
        evict_every: int | None,
        link: Link,
    ) -> None:
        self.sim = simulation(
            policy,
            BLOCKS,
            link,
            host_blocks=host_blocks,
            mechanisms=PRESETS[preset],
            patience=Patience(quantum, promote_after=2),
            debug_preempt_every=evict_every,
            max_num_seqs=slots,
            max_num_batched_tokens=budget,
            max_idle_sessions=4,
        )
        self.submitted: dict[str, Submit] = {}

    @rule(
        length=st.integers(1, 90),
        max_tokens=st.integers(1, 40),
        priority=st.integers(0, 2),
        scope=st.sampled_from([None, ("t", "u"), ("t", "v")]),
        session=st.sampled_from([None, None, "s", "z"]),
        salt=st.integers(0, 3),
    )
    def arrive(
        self,
        length: int,
        max_tokens: int,
        priority: int,
        scope: tuple[str, str] | None,
        session: str | None,
        salt: int,
    ) -> None:
        self._submit(tuple((salt + i) % VOCAB for i in range(length)), max_tokens, priority, scope, session)

    @rule(data=st.data(), extra=st.integers(1, 20), max_tokens=st.integers(1, 20))
    def next_turn(self, data: st.DataObject, extra: int, max_tokens: int) -> None:
        done = [name for name in self.sim.ended if name in self.submitted]
        if done:
            before = self.submitted[data.draw(st.sampled_from(done))]
            history = (*before.prompt, *self.sim.answers[before.request_id], *range(extra))
            self._submit(history, max_tokens, before.priority, before.scope, before.session)

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if live := [name for name in self.submitted if name not in self.sim.ended]:
            self.sim.cancel(data.draw(st.sampled_from(live)))

    @rule(name=st.sampled_from(["s", "z"]))
    def close(self, name: str) -> None:
        self.sim.close_session(name)

    @rule(scope=st.sampled_from([("t", "u"), ("t", "v")]))
    def close_scope(self, scope: tuple[str, str]) -> None:
        self.sim.close_scope(scope)

    @rule(steps=st.integers(1, 12))
    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.sim.step()
            self.sim.core.check()

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.sim.now += seconds

    @invariant()
    @precondition(lambda self: hasattr(self, "sim"))
    def holds(self) -> None:
        self.sim.core.check()

    def teardown(self) -> None:
        if not hasattr(self, "sim"):
            return
        self.sim.run(max_steps=20_000)
        for name, spec in self.submitted.items():
            end = self.sim.ended[name]
            if isinstance(end, Finished):
                answer = undisturbed(spec.prompt, spec.max_tokens, spec.sampling.seed)
                got = self.sim.answers[name]
                assert got == answer[: len(got)]
                assert end.reason is FinishReason.CANCELLED or len(got) == spec.max_tokens
        self.sim.now += 1000
        self.sim.step()
        gauges = self.sim.core.gauges()
        assert gauges.blocks_used == gauges.blocks_reserved == gauges.host_blocks_used == gauges.copies_in_flight == 0
        self.sim.core.check()

    def _submit(
        self,
        prompt: tuple[int, ...],
        max_tokens: int,
        priority: int,
        scope: tuple[str, str] | None,
        session: str | None,
    ) -> None:
        name = f"r{len(self.submitted)}"
        sampling = SamplingParams(seed=len(self.submitted) % 3)
        busy = {spec.session for name, spec in self.submitted.items() if name not in self.sim.ended and spec.session}
        self.submitted[name] = Submit(name, prompt, max_tokens, sampling, frozenset(), scope, priority, session=session)
        self.sim.submit(self.submitted[name])
        end = self.sim.ended.get(name)
        assert (isinstance(end, Refused) and end.code == "session_busy") == (session in busy)


TestCoreMachine = CoreMachine.TestCase
