"""POST /tokenize and /detokenize, in vLLM's forms."""

import re
from pathlib import Path

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing

from service.execution.models.chat_template import ChatTemplate
from service.execution.models.tokenizer import Tokenizer

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def with_bos(serve, tiny_model_path: Path):
    """A server of a model that wants a special token before bare prompts."""
    backend = Backend.from_file(str(tiny_model_path / "tokenizer.json"))
    bos = "<|im_start|>"
    backend.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
    return await serve(model={"tokenizer": Tokenizer(backend)})


async def tokenize(live, **fields):
    response = await live.http.post("/tokenize", json=fields)
    assert response.status == 200
    return await response.json()


async def test_a_text_becomes_its_tokens(live, tokenizer):
    body = await tokenize(live, prompt="Hello, wörld")
    expected = tokenizer.encode_prompt("Hello, wörld")
    assert body == {"count": len(expected), "max_model_len": 100_000, "tokens": expected, "token_strs": None}


@pytest.mark.parametrize("generation", [True, False])
async def test_messages_become_what_the_template_writes(live, tokenizer, generation):
    body = await tokenize(live, messages=HELLO, add_generation_prompt=generation)
    text = "<|im_start|>user\nHello<|im_end|>\n" + "<|im_start|>assistant\n" * generation
    assert body["tokens"] == tokenizer.encode(text)


async def test_a_chat_counts_as_many_prompt_tokens(live):
    body = await tokenize(live, messages=HELLO)
    answer = await (await live.chat("Hello")).json()
    assert body["count"] == answer["usage"]["prompt_tokens"]


async def test_the_template_reads_variables_of_both(serve, tokenizer):
    live = await serve(model={"chat_template": ChatTemplate("{{ '' if enable_thinking else 'no thoughts' }}")})
    for thinking, text in ((True, ""), (False, "no thoughts")):
        variables = {"enable_thinking": thinking}
        body = await tokenize(live, messages=HELLO, chat_template_kwargs=variables)
        assert body["tokens"] == tokenizer.encode(text)


async def test_a_bare_prompt_gets_the_models_special_tokens(with_bos, tokenizer):
    bos, text = tokenizer.encode("<|im_start|>"), tokenizer.encode("Hello")
    assert (await tokenize(with_bos, prompt="Hello"))["tokens"] == bos + text
    assert (await tokenize(with_bos, prompt="Hello", add_special_tokens=False))["tokens"] == text


async def test_a_conversation_brings_its_own_special_tokens(with_bos, tokenizer):
    bos = tokenizer.encode("<|im_start|>")
    assert (await tokenize(with_bos, messages=HELLO))["tokens"][:2] != bos * 2
    assert (await tokenize(with_bos, messages=HELLO, add_special_tokens=True))["tokens"][:2] == bos * 2


async def test_a_completion_counts_the_special_tokens(with_bos):
    answer = await (await with_bos.complete("Hello")).json()
    bare = await (await with_bos.complete("Hello", add_special_tokens=False)).json()
    count = (await tokenize(with_bos, prompt="Hello"))["count"]
    assert [each["usage"]["prompt_tokens"] for each in (answer, bare)] == [count, count - 1]


async def test_token_strings_come_when_asked_for(live):
    body = await tokenize(live, prompt="Hello there", return_token_strs=True)
    assert "".join(body["token_strs"]) == "Hello there"
    assert len(body["token_strs"]) == body["count"]


@pytest.mark.parametrize("text", ["", "Hello there", "<|im_start|>user\nä€😀<|im_end|>"])
async def test_detokenizing_gives_the_text_back(live, text):
    tokens = (await tokenize(live, prompt=text))["tokens"]
    response = await live.http.post("/detokenize", json={"tokens": tokens})
    assert await response.json() == {"prompt": text}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/tokenize", {}, None),
        ("/tokenize", {"prompt": "a", "messages": HELLO}, None),
        ("/tokenize", {"messages": []}, "messages"),
        ("/tokenize", {"prompt": ["a"]}, "prompt"),
        ("/tokenize", {"prompt": "a", "model": 3}, "model"),
        ("/tokenize", {"messages": HELLO, "continue_final_message": True}, "continue_final_message"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": "a"}, "tokens"),
        ("/detokenize", {"tokens": [384]}, "tokens"),
        ("/detokenize", {"tokens": [1, -1]}, "tokens"),
    ],
)
async def test_what_cannot_be_done_is_400_and_names_the_field(live, path, fields, param):
    response = await live.http.post(path, json=fields)
    error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, param)


async def test_a_lone_surrogate_is_no_text(live):
    response = await live.http.post("/tokenize", data=rb'{"prompt":"\ud800"}')
    assert response.status == 400


@pytest.mark.parametrize(
    ("path", "fields", "complaint"),
    [
        ("/tokenize", {"prompt": "a b " * 90_000}, "your prompt have 360000 characters"),
        ("/tokenize", {"messages": [{"role": "user", "content": "a b " * 90_000}]}, "your messages have 360000 char"),
        ("/tokenize", {"prompt": "a b " * 3_000}, r"your prompt have \d+ tokens"),
        ("/detokenize", {"tokens": [65] * 1_001}, "your tokens have 1001 tokens"),
    ],
)
async def test_what_is_longer_than_the_context_is_refused_as_in_a_chat(serve, path, fields, complaint):
    live = await serve(model={"max_model_len": 1_000})
    response = await live.http.post(path, json=fields)
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (400, "context_length_exceeded", next(iter(fields)))
    assert re.search(complaint, error["message"])
