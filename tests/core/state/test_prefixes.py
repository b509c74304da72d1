"""The index of idle conversations."""

from hypothesis import given
from hypothesis import strategies as st

from service.core.state.prefixes import PrefixIndex, common_prefix

tokens = st.lists(st.integers(0, 2), max_size=8)


def test_finds_the_conversation_that_the_prompt_continues() -> None:
    index: PrefixIndex[str, str] = PrefixIndex()
    index.add("scope", [1, 2, 3, 4], 2, "a")
    index.add("scope", [9, 2, 3, 4], 2, "b")
    assert index.find("scope", [1, 2, 3, 4, 5]) == ("a", 4)


def test_never_looks_into_another_scope() -> None:
    index: PrefixIndex[str, str] = PrefixIndex()
    index.add("mine", [1, 2, 3], 2, "a")
    assert index.find("yours", [1, 2, 3]) is None


def test_a_prompt_that_differs_before_the_answer_matches_nothing() -> None:
    index: PrefixIndex[str, str] = PrefixIndex()
    index.add("scope", [1, 2, 3, 4], 3, "a")
    assert index.find("scope", [1, 2, 9, 4]) is None
    assert index.find("scope", [1, 2]) is None


def test_of_equal_histories_the_one_with_the_same_answer_wins() -> None:
    index: PrefixIndex[str, str] = PrefixIndex()
    index.add("scope", [1, 2, 7, 7], 2, "other")
    index.add("scope", [1, 2, 3, 4], 2, "same")
    assert index.find("scope", [1, 2, 3, 4, 5]) == ("same", 4)


def test_removal_leaves_nothing_behind() -> None:
    index: PrefixIndex[str, str] = PrefixIndex()
    index.add("scope", [1, 2], 1, "a")
    index.remove("scope", [1, 2], 1, "a")
    assert len(index) == 0
    assert index.find("scope", [1, 2, 3]) is None


@given(st.lists(st.tuples(tokens, st.integers(0, 8)), max_size=6), tokens)
def test_agrees_with_a_search_through_everything(filed: list[tuple[list[int], int]], prompt: list[int]) -> None:
    index: PrefixIndex[str, int] = PrefixIndex()
    entries = [(known, min(required, len(known))) for known, required in filed]
    for value, (known, required) in enumerate(entries):
        index.add("scope", known, required, value)
    fits = {v: r for v, (known, r) in enumerate(entries) if known[:r] == prompt[:r] and r <= len(prompt)}
    found = index.find("scope", prompt)
    if found is None:
        assert not fits
    else:
        value, shared = found
        assert fits[value] == max(fits.values())
        rivals = [common_prefix(entries[v][0], prompt) for v, r in fits.items() if r == fits[value]]
        assert shared == common_prefix(entries[value][0], prompt) == max(rivals)
