"""An answer that repeats itself is found by its end."""

from hypothesis import given
from hypothesis import strategies as st

from service.core.messages.sampling import RepetitionDetection

TOKENS = st.lists(st.integers(0, 2), min_size=1, max_size=40)


def repeats(answer: list[int], least: int, most: int, count: int) -> bool:
    """The definition: the answer ends with a pattern, so many times."""
    return any(
        len(answer) >= size * count and answer[len(answer) - size * count :] == answer[-size:] * count
        for size in range(least, most + 1)
    )


@given(prompt=TOKENS, answer=TOKENS, least=st.integers(1, 6), more=st.integers(0, 9), count=st.integers(2, 4))
def test_it_ends_as_defined_and_the_prompt_does_not_count(
    prompt: list[int], answer: list[int], least: int, more: int, count: int
) -> None:
    found = RepetitionDetection(least + more, least, count).ends([*prompt, *answer], len(prompt))
    assert found == repeats(answer, least, least + more, count)


def test_a_short_pattern_is_also_a_longer_one() -> None:
    detection = RepetitionDetection(max_pattern_size=256, min_pattern_size=8, min_count=4)
    assert not detection.ends([1, 2, 3] * 11, 0)
    assert detection.ends([1, 2, 3] * 12, 0)
