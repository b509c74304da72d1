"""Encoding, decoding and decoding token by token."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models

from service.errors import InvalidRequestError, ModelLoadError
from service.execution.models.gguf_file import GgufFile
from service.execution.models.gguf_tokenizer import gguf_tokenizer
from service.execution.models.loading import default_model_path
from service.execution.models.tokenizer import Tokenizer, read_tokenizer

DATA = Path(__file__).parents[2] / "data"
TEXTS = [
    "",
    "Hello, world!",
    "naïve — 日本語 🎉 👩‍👩‍👧‍👦",
    " leading and trailing ",
    "a\n\n\tb\r\n",
    "1234567 8,9.0",
    "it's  we'll",
]

BYTES = read_tokenizer(DATA / "families" / "llama2" / "tokenizer.json")  # one token a byte


@pytest.fixture(scope="module")
def tiny() -> Tokenizer:
    return read_tokenizer(DATA / "tiny" / "tokenizer.json")


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    return gguf_tokenizer(GgufFile(default_model_path()))


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_the_text_back(tiny: Tokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text)) == text


def test_special_tokens_are_recognised_and_none_is_added(tiny: Tokenizer) -> None:
    assert tiny.encode("<|im_start|><|im_end|>") == [1, 2]
    assert tiny.encode("") == []


def test_special_tokens_are_shown_only_on_request(tiny: Tokenizer) -> None:
    tokens = tiny.encode("<|im_start|>hello<|im_end|>")
    assert tiny.decode(tokens) == "hello"
    assert tiny.decode(tokens, skip_special=False) == "<|im_start|>hello<|im_end|>"


def test_lone_surrogate_is_refused(tiny: Tokenizer) -> None:
    with pytest.raises(InvalidRequestError, match="lone surrogate at character 2"):
        tiny.encode("ab\ud800")


def test_half_a_character_is_never_released() -> None:
    decoder = BYTES.decoder()
    tokens = BYTES.encode("é👩‍👧")
    pieces = [decoder.push(token) for token in tokens]
    assert "".join(pieces) == "é👩‍👧"
    assert "\ufffd" not in "".join(pieces)
    assert [bool(piece) for piece in pieces] == [
        False,
        True,
        *[False] * 3,
        True,
        *[False] * 2,
        True,
        *[False] * 3,
        True,
    ]
    assert decoder.flush() == ""


def test_pending_is_true_while_a_character_is_unfinished() -> None:
    decoder = BYTES.decoder()
    first, second = BYTES.encode("é")
    assert not decoder.pending
    decoder.push(first)
    assert decoder.pending
    decoder.push(second)
    assert not decoder.pending


def test_bytes_that_are_no_text_become_replacements_once_that_is_certain() -> None:
    decoder = BYTES.decoder()
    lead, letter = BYTES.encode("é")[0], BYTES.encode("x")[0]
    assert decoder.push(lead) == ""
    assert decoder.push(letter) == "\ufffdx"
    assert decoder.push(lead) == ""
    assert decoder.flush() == "\ufffd"


@given(st.lists(st.integers(0, 258), max_size=40))
def test_pieces_join_to_what_decoding_at_once_gives(tokens: list[int]) -> None:
    decoder = BYTES.decoder()
    pieces = "".join(decoder.push(token) for token in tokens) + decoder.flush()
    assert pieces == b"".join(BYTES.token_bytes(token) for token in tokens if token > 2).decode(errors="replace")


@given(st.lists(st.integers(0, 383), max_size=40))
def test_any_tokens_decode_as_in_the_package(tokens: list[int]) -> None:
    path = DATA / "tiny" / "tokenizer.json"
    expected = Backend.from_file(str(path)).decode(tokens, skip_special_tokens=True)
    assert read_tokenizer(path).decode(tokens) == expected


def test_token_bytes_and_text_are_those_of_one_token(tiny: Tokenizer) -> None:
    (lead,) = {tiny.encode("é")[0]}
    assert tiny.token_bytes(lead) == "é".encode()[:1]
    assert tiny.token_text(lead) == "\ufffd"
    assert tiny.token_text(1) == "<|im_start|>"
    assert tiny.token_bytes(999_999) == b""


def test_sizes_and_ids(tiny: Tokenizer) -> None:
    assert tiny.vocab_size == 384
    assert tiny.token_id("<|im_end|>") == 2
    assert tiny.token_id("<|nothing|>") is None
    assert tiny.is_special(2)
    assert not tiny.is_special(40)


def test_default_model_encodes_like_transformers(smollm2: Tokenizer) -> None:
    cases = {case["name"]: case for case in json.loads((DATA / "smollm2_greedy.json").read_text())["cases"]}
    compared = 0
    for case in cases.values():
        before = cases.get(case["previous"], {"prompt": [], "greedy": []})
        history = before["prompt"] + before["greedy"]
        if case["text"]:
            assert history + smollm2.encode(case["text"]) == case["prompt"], case["name"]
            compared += 1
    assert compared >= 20


def test_tokenizer_of_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelLoadError, match="decoder of the kind None is not supported"):
        Tokenizer(Backend(models.WordLevel({"a": 0}, unk_token="a")))


def test_truncation_and_padding_in_the_file_are_not_obeyed(tiny_model_path: Path, tmp_path: Path) -> None:
    backend = Backend.from_file(str(tiny_model_path / "tokenizer.json"))
    backend.enable_truncation(max_length=8)
    backend.enable_padding(length=12)
    backend.save(str(tmp_path / "tokenizer.json"))
    changed, plain = read_tokenizer(tmp_path / "tokenizer.json"), read_tokenizer(tiny_model_path / "tokenizer.json")
    for text in ("hi", "a sentence of many more than eight or even twelve tokens"):
        assert changed.encode(text) == plain.encode(text)
