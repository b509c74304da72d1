"""The default model through core and runner, against what Hugging Face transformers answers in float32.

`tests/data/make_smollm2_reference.py` made the expected tokens. Where ours differ, the reference's two largest logits
must be nearly equal; such near ties are counted, and the comparison goes on from the reference's token.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from allocator import BLOCK_TOKENS, Extent
from kernels import cpu
from service.core.core import Core
from service.core.messages.commands import Submit
from service.core.messages.plan import Row, SlotOpening
from service.core.messages.sampling import SamplingParams
from service.execution.batch import Batcher, SlotMemory
from service.execution.kv import KVPools, allocate_kv_pool
from service.execution.memory import HostMemory
from service.execution.model import LlamaModel
from service.execution.models.loading import LoadedModel, load_model
from service.execution.runner import CPURunner
from service.simulation.driver import Simulation
from tests.settings import core_settings, make_policy

DATA = Path(__file__).parents[2] / "data"
CASES = {case["name"]: case for case in json.loads((DATA / "smollm2_greedy.json").read_text())["cases"]}
SLICE = ("capital", "emoji", "translate", "heapq-300")  # of the matrix, in `make test`
NEAR_TIE = 1e-4
NEAR_TIE_SHARE = 0.005
CHUNKS = (16, 100, 512)
GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model()


class Server:
    """Core and runner without a service around them."""

    def __init__(self, model: LoadedModel, chunk: int, slots: int) -> None:
        blocks = 1200
        core = Core(
            core_settings(device_blocks=blocks, max_num_seqs=slots, max_num_batched_tokens=chunk), make_policy("fcfs")
        )
        sizes = {"pools": KVPools.plain(model.config, blocks), "num_slots": slots, "max_batched_tokens": chunk}
        self.simulation = Simulation(core, CPURunner(model.config, model.weights, **sizes))

    def answers(self, prompts: dict[str, tuple[list[int], int]], user: str | None = None) -> dict[str, list[int]]:
        """Return greedy answers to prompts (tokens, length of the answer), all at once."""
        for name, (prompt, length) in prompts.items():
            scope = None if user is None else ("tenant", user)
            self.simulation.submit(Submit(name, tuple(prompt), length, GREEDY, frozenset(), scope))
        self.simulation.run()
        self.simulation.core.check()
        return {name: self.simulation.answers[name] for name in prompts}


@dataclass
class Comparison:
    """Counts tokens compared and near ties met."""

    tokens: int = 0
    near_ties: int = 0

    def differs_at(self, name: str, answer: list[int], skipped: int) -> int | None:
        """Return where an answer after ``skipped`` tokens of the reference differs from it: only at a near tie."""
        expected, gaps = CASES[name]["greedy"], CASES[name]["gaps"]
        for index, token in enumerate(answer, skipped):
            self.tokens += 1
            if token != expected[index]:
                assert gaps[index] < NEAR_TIE, f"{name}: token {index} is {token}, not {expected[index]}"
                self.near_ties += 1
                return index
        return None

    def finish(self) -> None:
        print(f"{self.near_ties} near ties in {self.tokens} tokens")
        assert self.near_ties <= NEAR_TIE_SHARE * self.tokens


def compare(server: Server, names: list[str], user: str | None = None) -> Comparison:
    """Compare all named cases at once, and those that meet a near tie again from the token after it."""
    comparison = Comparison()
    starts = dict.fromkeys(names, 0)
    round_ = 0
    while starts:
        wanted = {name: (prompt_of(name, skipped), 64 - skipped) for name, skipped in starts.items()}
        got = server.answers({f"{name}/{round_}": prompt for name, prompt in wanted.items()}, user)
        differing = {
            name: comparison.differs_at(name, got[f"{name}/{round_}"], skipped) for name, skipped in starts.items()
        }
        starts = {name: at + 1 for name, at in differing.items() if at is not None and at < 63}
        round_ += 1
    comparison.finish()
    return comparison


def prompt_of(name: str, skipped: int) -> list[int]:
    return [*CASES[name]["prompt"], *CASES[name]["greedy"][:skipped]]


def chains() -> Iterator[list[str]]:
    """Yield conversations: the names of their turns, in order."""
    for name in CASES:
        if name.endswith("-1") and CASES[name]["previous"] is None:
            stem = name.removesuffix("1")
            yield [turn for turn in CASES if turn.startswith(stem) and turn.removeprefix(stem).isdigit()]


def test_the_reference_is_what_was_asked_for() -> None:
    lengths = sorted(len(case["prompt"]) for case in CASES.values())
    assert len(CASES) >= 20
    assert lengths[0] <= 5
    assert lengths[-1] == 1500
    assert all(len(case["greedy"]) == len(case["gaps"]) == 64 for case in CASES.values())
    assert all(len(chain) == 3 for chain in chains())


def full_unless(chosen: object, *values: object) -> list[object]:
    """Return parameters of which only the chosen one runs in `make test`."""
    return [pytest.param(value, marks=[] if value == chosen else [pytest.mark.full]) for value in values]


def slice_or_all(names: tuple[str, ...]) -> pytest.MarkDecorator:
    """In `make test` only those named."""
    return pytest.mark.parametrize(
        "names", [names, pytest.param(tuple(CASES), marks=pytest.mark.full)], ids=["slice", "all"]
    )


@pytest.mark.parametrize("chunk", full_unless(100, *CHUNKS))
@slice_or_all(SLICE)
def test_alone(model: LoadedModel, names: tuple[str, ...], chunk: int) -> None:
    server = Server(model, chunk, slots=1)
    for name in names:
        compare(server, [name])


@pytest.mark.parametrize("chunk", full_unless(512, *CHUNKS))
@slice_or_all(tuple(CASES)[::4])
def test_all_in_one_batch(model: LoadedModel, names: tuple[str, ...], chunk: int) -> None:
    compare(Server(model, chunk, slots=16), list(names))


@pytest.mark.parametrize("chunk", full_unless(100, *CHUNKS))
def test_turns_that_continue_a_session(model: LoadedModel, chunk: int) -> None:
    server = Server(model, chunk, slots=4)
    for chain in chains():
        for name in chain:
            compare(server, [name], user=chain[0])
            reused = server.simulation.ended[f"{name}/0"].usage.reused
            previous = CASES[name]["previous"]
            expected = len(CASES[previous]["prompt"]) + 63 if previous else 0  # the last answer token has no KV
            assert reused == expected


@pytest.mark.parametrize("chunk", full_unless(512, 16, 512))
def test_logits(model: LoadedModel, chunk: int) -> None:
    with np.load(DATA / "smollm2_logits.npz") as reference:
        for key in reference.files:
            name, index = key.split("/")
            expected = reference[key]
            got = logits_after(model, prompt_of(name, int(index)), chunk)
            assert np.abs(got - expected).max() <= 1e-3 * np.abs(expected).max()


def logits_after(model: LoadedModel, tokens: list[int], chunk: int) -> np.ndarray:
    """Return logits [vocab] after the last of ``tokens``, prefilled in chunks."""
    blocks = -(-len(tokens) // BLOCK_TOKENS)
    kv, batcher = allocate_kv_pool(model.config, blocks), Batcher(1, blocks)
    sizes = {"max_positions": len(tokens) + 1, "max_tokens": chunk, "max_draws": 1}
    network = LlamaModel(model.config, model.weights, cpu, HostMemory(), **sizes)
    slots = SlotMemory.allocate(HostMemory(), 1, blocks)
    batcher.open(SlotOpening.of(0, tuple(tokens), len(tokens), GREEDY))
    extents = (Extent(0, 0, blocks),)
    for start in range(0, len(tokens), chunk):
        part = tuple(tokens[start : start + chunk])
        row = Row(0, start, part, extents, draws_token=start + len(part) == len(tokens))
        batch, changes = batcher.build([row])
        slots.change(changes, cpu)
        logits = network.forward(batch, slots, kv)
    return np.array(logits[0])
