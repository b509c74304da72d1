"""Releasing text token by token around stop strings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.execution.models.text import Piece, TextStage
from service.execution.models.tokenizer import read_tokenizer

# One token a byte, except "he".
TOKENIZER = read_tokenizer(Path(__file__).parents[2] / "data" / "families" / "llama2" / "tokenizer.json")


def pieces(text: str, *stop: str) -> tuple[list[Piece], str]:
    """Return what each token of ``text`` releases, up to a stop, and what closing returns."""
    stage = TextStage(TOKENIZER)
    stage.open("r", stop)
    released = []
    for token in TOKENIZER.encode(text):
        released.append(stage.push("r", token, is_stop_token=False))
        if released[-1].keep_tokens is not None:
            break
    return released, stage.close("r")


def texts(released: list[Piece]) -> list[str]:
    return [piece.text for piece in released]


def test_without_stop_strings_text_flows_at_once() -> None:
    assert pieces("abc") == ([Piece("a"), Piece("b"), Piece("c")], "")


def test_characters_come_whole() -> None:
    released, rest = pieces("é🎉")
    assert texts(released) == ["", "é", "", "", "", "🎉"]
    assert rest == ""


def test_unfinished_character_is_replaced_at_the_end() -> None:
    stage = TextStage(TOKENIZER)
    stage.open("r")
    assert stage.push("r", TOKENIZER.encode("é")[0], is_stop_token=False) == Piece("")
    assert stage.close("r") == "\ufffd"


def test_text_that_may_begin_a_stop_string_is_held_back() -> None:
    released, rest = pieces("a##b#", "###")
    assert texts(released) == ["a", "", "", "##b", ""]
    assert rest == "#"


def test_stop_string_ends_the_answer_before_it() -> None:
    released, rest = pieces("ab##!cd", "##!")
    assert released == [Piece("a"), Piece("b"), Piece(""), Piece(""), Piece("", keep_tokens=2)]
    assert rest == ""


def test_stop_string_inside_a_token_keeps_the_tokens_before_it() -> None:
    released, _ = pieces("she said", "e")
    assert released == [Piece("s"), Piece("h", keep_tokens=1)]


def test_character_of_several_tokens_before_the_stop_is_kept_whole() -> None:
    released, _ = pieces("🎉.", ".")
    assert released[-1] == Piece("", keep_tokens=4)


def test_character_of_several_tokens_that_is_the_stop_is_not_kept() -> None:
    released, _ = pieces("a🎉", "🎉")
    assert released[-1] == Piece("", keep_tokens=1)


def test_the_match_that_ends_first_wins() -> None:
    released, _ = pieces("xxabyy", "xxabyy", "ab")
    assert ("".join(texts(released)), released[-1].keep_tokens) == ("xx", 2)


def test_of_matches_that_end_together_the_longer_wins() -> None:
    released, _ = pieces("xxab", "b", "xab")
    assert ("".join(texts(released)), released[-1].keep_tokens) == ("x", 1)


def test_stop_string_that_begins_inside_its_own_beginning_is_found() -> None:
    released, _ = pieces("aabaabaaX", "aabaaX")
    assert ("".join(texts(released)), released[-1].keep_tokens) == ("aab", 3)


def test_stop_token_releases_nothing_and_held_text_comes_at_the_end() -> None:
    stage = TextStage(TOKENIZER)
    stage.open("r", ("##",))
    stage.push("r", TOKENIZER.encode("#")[0], is_stop_token=False)
    assert stage.push("r", TOKENIZER.encode("x")[0], is_stop_token=True) == Piece("")
    assert stage.close("r") == "#"


def test_requests_do_not_mix() -> None:
    stage = TextStage(TOKENIZER)
    stage.open("one", ("ab",))
    stage.open("two", ("ab",))
    letter_a, letter_b = TOKENIZER.encode("a b")[::2]
    assert stage.push("one", letter_a, is_stop_token=False) == Piece("")
    assert stage.push("two", letter_b, is_stop_token=False) == Piece("b")
    assert stage.push("one", letter_b, is_stop_token=False) == Piece("", keep_tokens=0)


def test_closing_twice_gives_nothing() -> None:
    stage = TextStage(TOKENIZER)
    stage.open("r")
    stage.close("r")
    assert stage.close("r") == ""


def test_request_that_is_not_open_is_an_error() -> None:
    with pytest.raises(KeyError):
        TextStage(TOKENIZER).push("r", 5, is_stop_token=False)


ALPHABET = st.text(alphabet="ab🎉", max_size=30)
STOPS = st.lists(st.text(alphabet="ab🎉", min_size=1, max_size=5), min_size=1, max_size=3)


@given(ALPHABET, STOPS)
def test_released_text_is_what_precedes_the_first_stop_string(text: str, stop: list[str]) -> None:
    released, rest = pieces(text, *stop)
    ends = [(text.find(string) + len(string), -len(string)) for string in stop if string in text]
    expected = text[: sum(min(ends))] if ends else text
    assert "".join(texts(released)) + rest == expected
    kept = released[-1].keep_tokens if released else None
    assert kept == (len(TOKENIZER.encode(expected)) if ends else None)
