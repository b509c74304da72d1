"""Any bad request gets a typed error with the request's id, and the server goes on."""

import asyncio
import gzip
import json

import pytest
from pydantic import ValidationError

from service.api import json_bounds
from service.api.json_bounds import MAX_CONTAINERS, MAX_PAIRS
from service.api.openai.schemas import ChatRequest
from service.api.openai.text_schemas import CompletionRequest, DetokenizeRequest, TokenizeRequest
from service.api.websocket.frames import OpenFrame, TurnFrame
from service.errors import InvalidRequestError
from service.execution.models.chat_template import ChatTemplate

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello"}]


def body(**fields) -> bytes:
    return json.dumps({"messages": HELLO, "max_tokens": 2, **fields}).encode()


MALFORMED = {
    "nothing": (b"", None),
    "not json": (b"{", None),
    "a list": (b"[]", None),
    "null": (b"null", None),
    "nested too deeply": (b"[" * 100_000, None),
    "bad utf-8": (b'{"messages":[{"role":"user","content":"\xff"}]}', None),
    "a lone surrogate": (rb'{"messages":[{"role":"user","content":"\ud800"}]}', None),
    "nan": (body()[:-1] + b',"temperature":NaN}', None),
    "no messages": (b"{}", "messages"),
    "empty messages": (body(messages=[]), "messages"),
    "messages as text": (body(messages="Hello"), "messages"),
    "a message as text": (body(messages=["Hello"]), "messages.0"),
    "no content": (body(messages=[{"role": "user"}]), "messages.0"),
    "content as number": (body(messages=[{"role": "user", "content": 3}]), "messages.0.content"),
    "unknown role": (body(messages=[{"role": "oracle", "content": "x"}]), "messages.0.role"),
    "picture": (
        body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
        "messages.0.content.0.type",
    ),
    "n=0": (body(n=0), "n"),
    "n as text": (body(n="2"), "n"),
    "n as bool": (body(n=True), "n"),
    "temperature -1": (body(temperature=-1), "temperature"),
    "temperature too big": (body(temperature=10**400), "temperature"),
    "repetition_penalty next to 0": (body(repetition_penalty=1e-50), "repetition_penalty"),
    "top_p 0": (body(top_p=0), "top_p"),
    "max_tokens 0": (body(max_tokens=0), "max_tokens"),
    "max_tokens too big": (body(max_tokens=10**9), "messages"),
    "empty stop": (body(stop=[""]), "stop"),
    "stop as number": (body(stop=3), "stop"),
    "seed too big": (body(seed=2**64), "seed"),
    "bias of no token": (body(logit_bias={"384": 1}), "logit_bias"),
    "bias of a word": (body(logit_bias={"cat": 1}), "logit_bias.cat"),
    "bias too strong": (body(logit_bias={"3": 1000}), "logit_bias.3"),
    "stop token that is none": (body(stop_token_ids=[-1]), "stop_token_ids"),
    "top_logprobs alone": (body(top_logprobs=2), None),
    "too many logprobs": (body(logprobs=True, top_logprobs=21), "top_logprobs"),
    "tools": (body(tools=[{"type": "function"}]), "tools"),
    "template variables as text": (body(chat_template_kwargs="x"), "chat_template_kwargs"),
    "special tokens around a chat": (body(add_special_tokens=True), "add_special_tokens"),
    "json mode": (body(response_format={"type": "json_object"}), "response_format"),
    "tool calls": (body(messages=[{"role": "assistant", "content": "", "tool_calls": [{}]}]), "messages.0"),
}


async def check_still_serves(live) -> None:
    assert (await live.chat()).status == 200


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_is_400_and_names_the_field(live, case):
    raw, param = MALFORMED[case]
    response = await live.http.post(CHAT, data=raw, headers={"X-Request-Id": "mine-1"})
    error = (await response.json())["error"]
    assert response.status == 400
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["request_id"] == response.headers["X-Request-Id"] == "mine-1"
    assert error["message"]
    await check_still_serves(live)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ChatRequest, {"messages": [1] * 1000}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * 1000}]}),
        (ChatRequest, {"messages": HELLO, "stop": [1] * 1000}),
        (ChatRequest, {"messages": HELLO, "stop_token_ids": ["a"] * 1000}),
        (ChatRequest, {"messages": HELLO, "logit_bias": {str(token): "a" for token in range(2000)}}),
        (CompletionRequest, {"prompt": [{}] * 1000}),
        (CompletionRequest, {"prompt": [[{}] * 1000]}),
        (TokenizeRequest, {"messages": [1] * 1000}),
        (DetokenizeRequest, {"tokens": ["a"] * 1000}),
        (OpenFrame, {"type": "open", "messages": [1] * 1000}),
        (TurnFrame, {"type": "turn", "messages": [1] * 1000}),
    ],
)
def test_a_thousand_bad_items_are_one_error_for_each_alternative(kind, values):
    with pytest.raises(ValidationError) as raised:
        kind.model_validate(values)
    assert raised.value.error_count() <= 5


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"[" + b"[]," * MAX_CONTAINERS + b"1]", f"{MAX_CONTAINERS + 1} brackets"),
        (b'{"a":[' + b"{}," * MAX_CONTAINERS + b"1]}", f"{MAX_CONTAINERS + 2} brackets"),
        (b'{"a":1' + b',"a" :1' * MAX_PAIRS + b"}", f"{MAX_PAIRS + 1} colons"),
    ],
)
def test_what_takes_long_to_parse_is_refused_before(raw, problem, monkeypatch):
    monkeypatch.setattr(json_bounds, "from_json", None)
    for text in raw, raw.decode():
        with pytest.raises(InvalidRequestError, match=problem):
            json_bounds.read_json(text)


async def test_an_unknown_field_is_ignored(live):
    assert (await live.chat(verbosity="low", store=False, metadata={"a": "b"})).status == 200


async def test_fields_that_change_nothing_are_accepted(live):
    response = await live.chat(tools=[], tool_choice="none", response_format={"type": "text"}, top_p=None, stop=None)
    assert response.status == 200


async def test_another_model_is_not_found(live):
    response = await live.chat(model="gpt-9")
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["param"]) == (404, "model_not_found", "model")


async def test_the_error_for_a_prompt_longer_than_the_context_has_the_numbers(serve):
    live = await serve(model={"max_model_len": 64})
    response = await live.chat("word " * 100, max_tokens=4)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "context_length_exceeded")
    assert "maximum context length is 64 tokens" in error["message"]
    await check_still_serves(live)


async def test_a_huge_message_is_refused_without_tokenising_it(serve):
    live = await serve(model={"max_model_len": 64, "longest_token_bytes": 4, "tokenizer": None})
    response = await live.chat("x" * 1000)
    assert (response.status, (await response.json())["error"]["code"]) == (400, "context_length_exceeded")


async def test_a_request_that_no_memory_here_could_hold_is_refused_at_once(serve):
    live = await serve(core={"device_blocks": 4})
    response = await live.chat(max_tokens=100)
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (400, "kv_capacity_exceeded")
    assert "64 tokens" in error["message"]
    await check_still_serves(live)


async def test_core_refuses_too_and_says_so(serve):
    live = await serve(core={"device_blocks": 4}, model={"capacity_tokens": 1_000_000})
    response = await live.chat(max_tokens=100, stream=True)
    assert (response.status, (await response.json())["error"]["code"]) == (400, "kv_capacity_exceeded")


async def test_a_body_over_the_limit_is_413(serve):
    live = await serve(limits={"max_body": 1000})
    response = await live.chat("x" * 2000)
    assert (response.status, (await response.json())["error"]["code"]) == (413, "payload_too_large")
    await check_still_serves(live)


async def test_a_body_over_the_limit_is_413_when_its_length_was_not_declared(serve):
    live = await serve(limits={"max_body": 1000})

    async def pieces():
        yield b"x" * 900
        yield b"x" * 900

    response = await live.http.post(CHAT, data=pieces())
    assert response.status == 413
    await check_still_serves(live)


async def test_a_small_body_that_unpacks_to_a_big_one_is_413(serve):
    live = await serve(limits={"max_body": 10_000})
    packed = gzip.compress(b" " * 5_000_000)
    response = await live.http.post(CHAT, data=packed, headers={"Content-Encoding": "gzip"})
    assert response.status == 413
    await check_still_serves(live)


async def test_a_body_that_is_not_what_its_header_says_is_400(live):
    reader, writer = await asyncio.open_connection(*live.address)
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n"
    writer.write(head.encode() + b"plain")
    assert b" 400 " in await reader.readline()
    writer.close()
    await check_still_serves(live)


async def test_a_body_that_does_not_come_is_not_waited_for(serve):
    live = await serve(limits={"body_timeout_s": 0.02})

    async def never():
        yield b"{"
        await asyncio.Event().wait()

    response = await live.http.post(CHAT, data=never())
    assert (response.status, (await response.json())["error"]["code"]) == (400, "invalid_request_error")


async def test_a_full_queue_is_429_with_a_time_to_come_back(serve):
    live = await serve(core={"max_num_seqs": 1, "max_num_queued_reqs": 1})
    live.runner.hold()
    running = await live.chat(stream=True, max_tokens=2)
    response = await live.chat(n=2)
    error = (await response.json())["error"]
    assert (response.status, error["code"], error["type"]) == (429, "server_overloaded", "rate_limit_error")
    assert int(response.headers["Retry-After"]) >= 1
    live.runner.release()
    assert b"[DONE]" in await running.read()


async def test_too_many_open_requests_are_429(serve):
    live = await serve(limits={"max_open_requests": 1})
    live.runner.hold()
    running = await live.chat(stream=True, max_tokens=2)
    refused = await live.chat()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "5")  # nobody who waited has started yet
    live.runner.release()
    await running.read()
    await check_still_serves(live)


async def test_a_template_that_refuses_is_400(serve):
    live = await serve(model={"chat_template": ChatTemplate("{{ raise_exception('roles must alternate') }}")})
    response = await live.chat()
    assert response.status == 400
    assert "roles must alternate" in (await response.json())["error"]["message"]
