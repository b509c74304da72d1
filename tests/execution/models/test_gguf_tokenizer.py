"""Tokenizers built from GGUF metadata: SentencePiece's own results, pre-tokenizers, and what is refused."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import pre_tokenizers

from service.errors import ModelLoadError
from service.execution.models.gguf_file import GgufFile
from service.execution.models.gguf_tokenizer import gguf_tokenizer
from service.execution.models.tokenizer import Tokenizer

SENTENCEPIECE = json.loads((Path(__file__).parents[2] / "data" / "sentencepiece.json").read_text(encoding="utf-8"))
BYTE_LEVEL = ["<|end|>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "12", "Ġ1", "ab", "Ċ1"]
MERGES = ["1 2", "Ġ 1", "a b", "Ċ 1"]


def write(path: Path, **values: Any) -> Tokenizer:
    """Return the tokenizer of a file with these ``tokenizer.ggml`` values."""
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in values.items():
        name = f"tokenizer.ggml.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        else:
            writer.add_string(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return gguf_tokenizer(GgufFile(path))


def byte_level(path: Path, pre: str, **changes: Any) -> Tokenizer:
    types = [3] + [1] * (len(BYTE_LEVEL) - 1)
    values = {"model": "gpt2", "pre": pre, "tokens": BYTE_LEVEL, "merges": MERGES, "token_type": types}
    return write(path, **(values | changes))


def sentencepiece(path: Path, **changes: Any) -> Tokenizer:
    values = {key: SENTENCEPIECE[key] for key in ("tokens", "scores")}
    return write(
        path,
        **({"model": "llama", "token_type": SENTENCEPIECE["types"], **values, "unknown_token_id": 0} | changes),
    )


@pytest.mark.parametrize("case", SENTENCEPIECE["cases"], ids=lambda case: repr(case["text"]))
def test_sentencepiece_gives_its_own_ids(tmp_path: Path, case: dict[str, Any]) -> None:
    assert sentencepiece(tmp_path / "t.gguf").encode(case["text"]) == case["ids"]


@pytest.mark.parametrize("case", SENTENCEPIECE["cases"], ids=lambda case: repr(case["text"]))
def test_sentencepiece_gives_the_text_back(tmp_path: Path, case: dict[str, Any]) -> None:
    assert sentencepiece(tmp_path / "t.gguf").decode(case["ids"]) == case["text"]


def test_byte_tokens_are_put_together_to_characters(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path / "t.gguf")
    tokens = [SENTENCEPIECE["tokens"].index(f"<0x{byte:02X}>") for byte in "🎉".encode()]
    decoder = tokenizer.decoder()
    assert [decoder.push(token) for token in tokens] == ["", "", "", "🎉"]


def test_bos_goes_before_a_bare_prompt_only(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path / "t.gguf", bos_token_id=1)
    assert tokenizer.encode_prompt("hello") == [1, *tokenizer.encode("hello")]


def test_bos_is_left_out_where_the_file_says_so(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path / "t.gguf", bos_token_id=1, add_bos_token=False)
    assert tokenizer.encode_prompt("hello") == tokenizer.encode("hello")


@pytest.mark.parametrize(
    ("pre", "text", "expected"),
    [
        ("gpt-2", "12", ["12"]),
        ("gpt-2", "x 1", ["x", "Ġ1"]),
        ("smollm", "12", ["1", "2"]),
        ("smollm", "x 1", ["x", "Ġ", "1"]),
        ("llama-bpe", "12", ["12"]),
        ("llama-bpe", "x 12", ["x", "Ġ", "12"]),
        ("qwen2", "12", ["1", "2"]),
        ("qwen2", "x 1", ["x", "Ġ", "1"]),
        ("tekken", "12", ["1", "2"]),
        ("tekken", "ab", ["ab"]),
        ("tekken", "aB", ["a", "B"]),
    ],
)
def test_words_are_split_as_the_pre_tokenizer_says(tmp_path: Path, pre: str, text: str, expected: list[str]) -> None:
    tokenizer = byte_level(tmp_path / "t.gguf", pre)
    assert [BYTE_LEVEL[token] for token in tokenizer.encode(text)] == expected


def test_qwen_composes_characters_first(tmp_path: Path) -> None:
    tokenizer = byte_level(tmp_path / "t.gguf", "qwen2")
    assert tokenizer.decode(tokenizer.encode("e\u0301")) == "\u00e9"


def test_user_defined_tokens_are_recognised_and_shown(tmp_path: Path) -> None:
    tokens = [*BYTE_LEVEL, "<tool>"]
    tokenizer = byte_level(tmp_path / "t.gguf", "gpt-2", tokens=tokens, token_type=[3] + [1] * 260 + [4])
    (token,) = tokenizer.encode("<tool>")
    assert tokens[token] == "<tool>"
    assert tokenizer.decode([token]) == "<tool>"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "t5"}, "tokenizer of the kind 't5' is not supported"),
        ({"pre": "viking"}, "pre-tokenizer 'viking' is not supported"),
        ({"merges": ["a b c"]}, "tokenizer: "),
        ({"merges": ["a zz"]}, "tokenizer: "),
        ({"token_type": [1, 2]}, "261 tokens but 2 token types"),
        ({"bos_token_id": 5000}, "the bos token 5000 is not in the vocabulary"),
    ],
)
def test_unknown_or_broken_vocabulary_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        byte_level(tmp_path / "t.gguf", **({"pre": "gpt-2"} | changes))
