"""Quality of a mode beside float32: the measure itself, the prose, and the compiled model under both."""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality import answers, llama_cpp
from benchmarks.quality.__main__ import measured
from benchmarks.quality.measure import AT_MOST, WINDOW, broken, figures, measure, windows_of
from benchmarks.quality.modes import MODES, REFERENCE, LogitsOf, load
from benchmarks.quality.prose import PACKAGE, checked, prose
from service.execution.models.loading import open_model

SLICE = ("capital", "emoji", "translate", "heapq-300")  # of the answers, in `make test`
VOCAB = 16


def table(logits: NDArray[np.float32]) -> LogitsOf:
    """Return a model whose logits depend on the newest token alone."""
    return lambda tokens: logits[list(tokens)]


def told(model: LogitsOf, reference: LogitsOf, windows: NDArray[np.int64]) -> dict[str, float]:
    """Return a model's figures beside a reference's."""
    positions = measure({"reference": reference, "model": model}, "reference", windows)
    return figures(positions["model"], positions["reference"])


@pytest.fixture
def logits() -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 3, (VOCAB, VOCAB)).astype(np.float32)


@pytest.fixture
def windows() -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, VOCAB, (4, 64))


def test_an_equal_model_loses_nothing(logits: NDArray[np.float32], windows: NDArray[np.int64]) -> None:
    found = told(table(logits), table(logits.copy()), windows)
    assert (found["kl_mean"], found["kl_max"], found["perplexity_change"]) == (0, 0, 0)
    assert (found["argmax_equal"], found["widest_gap"]) == (1, 0)
    assert broken(found) == []


def test_a_constant_added_to_all_logits_changes_nothing(
    logits: NDArray[np.float32], windows: NDArray[np.int64]
) -> None:
    found = told(table(logits + 8), table(logits), windows)
    assert found["kl_max"] == pytest.approx(0, abs=1e-6)
    assert broken(found) == []


def test_figures_are_those_of_the_definitions() -> None:
    reference = np.log(np.array([[0.75, 0.25], [0.5, 0.5]], np.float32))
    model = np.log(np.array([[0.25, 0.75], [0.5, 0.5]], np.float32))
    found = told(table(model), table(reference), np.array([[0, 1, 1, 0]]))
    assert found["kl_max"] == pytest.approx(0.5 * np.log(3))
    assert found["kl_mean"] == pytest.approx(0.25 * np.log(3))
    assert found["argmax_equal"] == 0.5
    assert found["widest_gap"] == pytest.approx(np.log(3))
    assert found["perplexity"] == pytest.approx((0.75 * 0.5 * 0.5) ** (-1 / 3))
    assert found["perplexity_change"] == pytest.approx(3 ** (-1 / 3) - 1)
    assert found["perplexity_of_second_half"] == pytest.approx(2)


def test_a_perturbed_model_is_out_of_every_bound(logits: NDArray[np.float32], windows: NDArray[np.int64]) -> None:
    noise = np.random.default_rng(2).normal(0, 2, logits.shape).astype(np.float32)
    lines = broken(told(table(logits + noise), table(logits), windows))
    assert [line.split()[0] for line in lines] == ["perplexity_change", "kl_mean", "widest_gap", "argmax_equal"]


@pytest.mark.parametrize(("gap", "breaks"), [(0.7, False), (0.8, True)])
def test_another_token_is_allowed_where_the_reference_hesitates(gap: float, breaks: bool) -> None:
    reference = np.zeros((2, VOCAB), np.float32)
    reference[:, 3] = 9
    reference[1, 4] = 9 - gap
    model = reference.copy()
    model[1, 4] = 9.01
    found = told(table(model), table(reference), np.array([[0] * 60 + [1]]))
    assert found["argmax_equal"] == pytest.approx(60 / 61)
    assert [line for line in broken(found) if line.startswith("widest_gap")] == ["widest_gap 0.8 > 0.75"] * breaks


def test_windows_are_whole() -> None:
    assert windows_of(list(range(11)), 4).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_prose_has_the_tokens_that_are_told() -> None:
    tokens = open_model().tokenizer.encode(prose())
    assert len(tokens) == 26_585
    assert windows_of(tokens).size == 26_112


def test_other_prose_is_refused() -> None:
    with pytest.raises(ValueError, match=f"the prose in {PACKAGE} has the SHA-256 "):
        checked("THE FIRST BOOK OF SOMETHING ELSE")


def test_answers_are_followed_token_by_token() -> None:
    case = {"prompt": [5, 6], "greedy": [7, 8, 9], "gaps": [0.1, 2.0, 0.3]}

    def logits_of(tokens: Sequence[int]) -> NDArray[np.float32]:
        assert tokens == [5, 6, 7, 8]
        return np.eye(VOCAB, dtype=np.float32)[[0, 7, 1, 9]]

    found = answers.figures(logits_of, [case])
    assert found == {"tokens": 3, "tokens_that_differ": 1, "widest_gap": 2.0}
    assert broken(found) == ["widest_gap 2 > 0.75"]


def program(folder: Path, script: str) -> str:
    """Return a command that runs a shell script."""
    path = folder / "llama-perplexity"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(stat.S_IRWXU)
    return str(path)


def test_llama_cpp_is_asked_for_the_same_text(tmp_path: Path) -> None:
    script = f"""[ "$1" = --version ] && echo "version: 1.2 (build 3)" >&2 && exit
    cp "$4" {tmp_path}/seen && echo "Final estimate: PPL = 19.5979 +/- 0.50488" """
    found = llama_cpp.run(program(tmp_path, script), tmp_path / "a model.gguf", "Light.")
    assert (tmp_path / "seen").read_text() == "Light."
    assert (found.perplexity_of_second_half, found.version) == (19.5979, "1.2 (build 3)")
    assert found.command.startswith("llama-perplexity -m a model.gguf -f prose.txt -c 512 -t ")


def test_llama_cpp_without_a_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no perplexity; it ends with 'nothing"):
        llama_cpp.run(program(tmp_path, "echo nothing"), tmp_path / "model.gguf", "Light.")


@pytest.fixture(scope="module")
def modes() -> Mapping[str, LogitsOf]:
    """What `make test` compares, for sequences of one window."""
    return {name: load(MODES[name], WINDOW) for name in (REFERENCE, "--dtype auto")}


@pytest.fixture(scope="module")
def first_windows() -> NDArray[np.int64]:
    return windows_of(open_model().tokenizer.encode(prose()))[:2]


def test_the_compiled_model_is_near_float32_on_a_slice(
    modes: Mapping[str, LogitsOf], first_windows: NDArray[np.int64]
) -> None:
    found = told(modes["--dtype auto"], modes[REFERENCE], first_windows)
    assert found["kl_mean"] > 0
    assert broken(found) == []


def test_a_model_that_forgets_is_found(modes: Mapping[str, LogitsOf], first_windows: NDArray[np.int64]) -> None:
    def forgetful(tokens: Sequence[int]) -> NDArray[np.float32]:
        halves = tokens[: WINDOW // 2], tokens[WINDOW // 2 :]
        return np.concatenate([modes["--dtype auto"](half).copy() for half in halves])

    lines = broken(told(forgetful, modes[REFERENCE], first_windows[:1]))
    assert [line.split()[0] for line in lines] == ["perplexity_change", "kl_mean", "widest_gap", "argmax_equal"]


@pytest.mark.parametrize("name", SLICE)
def test_a_reference_answer_differs_only_where_float32_hesitates(modes: Mapping[str, LogitsOf], name: str) -> None:
    (case,) = (case for case in answers.CASES if case["name"] == name)
    assert broken(answers.figures(modes["--dtype auto"], [case])) == []


def test_float32_gives_the_reference_answers(modes: Mapping[str, LogitsOf]) -> None:
    case = next(case for case in answers.CASES if case["name"] == "translate")
    assert answers.figures(modes[REFERENCE], [case]) == {"tokens": 64, "tokens_that_differ": 0, "widest_gap": 0}


@pytest.mark.full
def test_every_mode_is_near_float32() -> None:
    result = measured(None, prose())
    assert result["tokens"] >= 20_000
    assert list(result["modes"]) == list(MODES)
    # With KV in bfloat16 one position of 26,112 has a wider gap than wanted: see docs/performance.md.
    assert {line.split()[0] for lines in result["broken"].values() for line in lines} <= {"widest_gap"}
    assert all(mode["answers"]["widest_gap"] <= AT_MOST["widest_gap"] for mode in result["modes"].values())
    assert all(mode["answers"]["tokens"] == 30 * 64 for mode in result["modes"].values())
