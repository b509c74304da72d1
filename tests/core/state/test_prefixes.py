"""The index of idle conversations."""

from itertools import chain
from typing import TypeVar

from hypothesis import given
from hypothesis import strategies as st

from service.core.messages.hashes import block_hashes
from service.core.state.prefixes import PrefixIndex, common_prefix

Value = TypeVar("Value", str, int)

# Blocks as long as what is hashed, so that some lookups are decided by hashes and some by comparing.
tokens = st.lists(st.lists(st.integers(0, 2), max_size=8) | st.just([1] * 16), max_size=4).map(
    lambda runs: list(chain(*runs))
)


class Index(PrefixIndex[str, Value]):
    """Computes the hashes that a prompt comes with."""

    def put(self, scope: str, known: list[int], required: int, value: Value) -> None:
        self.add(scope, known, required, block_hashes(known[:required])[-1], value)

    def seek(self, scope: str, prompt: list[int]) -> tuple[Value, int] | None:
        return self.find(scope, prompt, block_hashes(prompt))


def test_finds_the_conversation_that_the_prompt_continues() -> None:
    index: Index[str] = Index()
    index.put("scope", [1, 2, 3, 4], 2, "a")
    index.put("scope", [9, 2, 3, 4], 2, "b")
    assert index.seek("scope", [1, 2, 3, 4, 5]) == ("a", 4)


def test_never_looks_into_another_scope() -> None:
    index: Index[str] = Index()
    index.put("mine", [1, 2, 3], 2, "a")
    assert index.seek("yours", [1, 2, 3]) is None


def test_a_prompt_that_differs_before_the_answer_matches_nothing() -> None:
    index: Index[str] = Index()
    index.put("scope", [1, 2, 3, 4], 3, "a")
    assert index.seek("scope", [1, 2, 9, 4]) is None
    assert index.seek("scope", [1, 2]) is None


def test_of_equal_histories_the_one_with_the_same_answer_wins() -> None:
    index: Index[str] = Index()
    index.put("scope", [1, 2, 7, 7], 2, "other")
    index.put("scope", [1, 2, 3, 4], 2, "same")
    assert index.seek("scope", [1, 2, 3, 4, 5]) == ("same", 4)


def test_removal_leaves_nothing_behind() -> None:
    index: Index[str] = Index()
    index.put("scope", [1, 2], 1, "a")
    index.remove("scope", 1, block_hashes([1])[-1], "a")
    assert len(index) == 0
    assert index.seek("scope", [1, 2, 3]) is None


def test_a_long_common_prefix_is_found_to_the_token() -> None:
    known = list(range(1000))
    for length in (0, 1, 255, 256, 257, 999):
        assert common_prefix(known, (*known[:length], -1, *known[length + 1 :])) == length
    assert common_prefix(known, (*known, 7)) == 1000


@given(st.lists(st.tuples(tokens, st.integers(0, 40)), max_size=6), tokens)
def test_agrees_with_a_search_through_everything(filed: list[tuple[list[int], int]], prompt: list[int]) -> None:
    index: Index[int] = Index()
    entries = [(known, min(required, len(known))) for known, required in filed]
    for value, (known, required) in enumerate(entries):
        index.put("scope", known, required, value)
    fits = {v: r for v, (known, r) in enumerate(entries) if known[:r] == prompt[:r] and r <= len(prompt)}
    found = index.seek("scope", prompt)
    if found is None:
        assert not fits
    else:
        value, shared = found
        assert fits[value] == max(fits.values())
        rivals = [common_prefix(entries[v][0], prompt) for v, r in fits.items() if r == fits[value]]
        assert shared == common_prefix(entries[value][0], prompt) == max(rivals)
