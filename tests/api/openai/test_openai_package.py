"""The package ``openai``, unchanged, against the tiny model with its real data plane."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
from aiohttp import web

from service.api.context import METRICS
from service.api.server import app_runner
from service.cli.serve import build
from service.config import parse

QUESTION = [{"role": "user", "content": "Say something nice about the weather, please."}]
GREEDY = {"model": "tiny", "messages": QUESTION, "temperature": 0, "max_tokens": 12}


@pytest.fixture
def flags() -> tuple[str, ...]:
    return ()


@pytest.fixture
def app(tiny_model_path: Path, flags: tuple[str, ...]) -> web.Application:
    return build(parse(["--model", str(tiny_model_path), "--device-kv", "2MiB", "--max-num-seqs", "8", *flags]))


@pytest.fixture
async def client(app: web.Application) -> AsyncIterator[openai.AsyncOpenAI]:
    runner = app_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        yield client
    await runner.cleanup()


async def text_of(client: openai.AsyncOpenAI, **fields) -> str:
    return (await client.chat.completions.create(**{**GREEDY, **fields})).choices[0].message.content


async def test_chat(client):
    completion = await client.chat.completions.create(**GREEDY)
    assert completion.choices[0].message.role == "assistant"
    assert completion.choices[0].message.content
    assert completion.usage.completion_tokens <= 12
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


async def test_flexible_work_is_served_as_such(client):
    whole = await client.chat.completions.create(**GREEDY, service_tier="flex")
    stream = await client.chat.completions.create(**GREEDY, service_tier="priority", stream=True)
    assert whole.service_tier == "flex"
    assert {chunk.service_tier async for chunk in stream} == {"default"}


async def test_streaming_says_the_same(client):
    stream = await client.chat.completions.create(**GREEDY, stream=True)
    chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == await text_of(client)
    assert chunks[-1].choices[0].finish_reason in {"stop", "length"}


async def test_streamed_usage(client):
    stream = await client.chat.completions.create(**GREEDY, stream=True, stream_options={"include_usage": True})
    *others, last = [chunk async for chunk in stream]
    assert (last.choices, last.usage.completion_tokens > 0) == ([], True)
    assert all(chunk.usage is None for chunk in others)


async def test_the_stream_helper_accumulates_an_answer(client):
    whole = await text_of(client)
    async with client.chat.completions.stream(**GREEDY, stop=whole[-2:]) as stream:
        completion = await stream.get_final_completion()
    assert completion.choices[0].message.content == whole[: whole.index(whole[-2:])]


async def test_stop(client):
    whole = await text_of(client, max_tokens=40)
    stop = whole[len(whole) // 2 :][:2]
    completion = await client.chat.completions.create(**{**GREEDY, "max_tokens": 40}, stop=stop)
    assert completion.choices[0].finish_reason == "stop"
    assert completion.choices[0].message.content == whole[: whole.index(stop)]


async def test_logprobs(client):
    completion = await client.chat.completions.create(**GREEDY, logprobs=True, top_logprobs=3)
    entries = completion.choices[0].logprobs.content
    assert len(entries) == completion.usage.completion_tokens
    for entry in entries:
        ranked = [top.logprob for top in entry.top_logprobs]
        assert ranked == sorted(ranked, reverse=True)
        assert len(ranked) == 3
        assert entry.logprob == ranked[0] <= 0.0
        assert sum(map(math.exp, ranked)) <= 1.0 + 1e-6


async def test_streamed_logprobs_are_the_same(client):
    whole = (await client.chat.completions.create(**GREEDY, logprobs=True)).choices[0].logprobs.content
    stream = await client.chat.completions.create(**GREEDY, logprobs=True, stream=True)
    streamed = [e async for chunk in stream if chunk.choices[0].logprobs for e in chunk.choices[0].logprobs.content]
    assert [entry.token for entry in streamed] == [entry.token for entry in whole]
    assert whole[0].top_logprobs == []


async def test_n(client):
    completion = await client.chat.completions.create(**{**GREEDY, "temperature": 1.5}, n=3, seed=1)
    texts = [choice.message.content for choice in completion.choices]
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert len(set(texts)) == 3


async def test_seed(client):
    drawn = [await text_of(client, temperature=1.5, seed=seed) for seed in (4, 4, 5)]
    assert drawn[0] == drawn[1] != drawn[2]


async def test_bias_can_force_a_token(client):
    completion = await client.chat.completions.create(
        **{**GREEDY, "max_tokens": 3}, logit_bias={"70": 100}, logprobs=True
    )
    assert len({entry.token for entry in completion.choices[0].logprobs.content}) == 1


async def test_the_next_turn_reuses_the_last_one(client):
    first = await client.chat.completions.create(**GREEDY, user="ann")
    history = [*QUESTION, {"role": "assistant", "content": first.choices[0].message.content}]
    follow_up = {**GREEDY, "messages": [*history, {"role": "user", "content": "Thanks!"}]}
    second = await client.chat.completions.create(**follow_up, user="ann")
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens - 1


async def test_completions_and_their_logprobs(client: openai.AsyncOpenAI) -> None:
    fields = {"model": "tiny", "prompt": ["One", "Two"], "temperature": 0, "max_tokens": 6, "logprobs": 2}
    whole = await client.completions.create(**fields)
    assert [choice.finish_reason for choice in whole.choices] == ["length", "length"]
    assert [len(choice.logprobs.tokens) for choice in whole.choices] == [6, 6]
    texts = ["", ""]
    async for chunk in await client.completions.create(**fields, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in whole.choices]


async def test_models(client):
    assert [model.id async for model in client.models.list()] == ["tiny"]
    assert (await client.models.retrieve("tiny")).owned_by == "fastswitch"


async def test_errors_arrive_as_the_packages_own(client):
    with pytest.raises(openai.BadRequestError) as bad:
        await client.chat.completions.create(**{**GREEDY, "messages": []})
    assert bad.value.param == "messages"
    assert bad.value.code == "invalid_request_error"
    assert bad.value.request_id == bad.value.body["request_id"]
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(**{**GREEDY, "model": "gpt-9"})
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(**{**GREEDY, "max_tokens": 100_000})
    assert long.value.code == "context_length_exceeded"


@pytest.mark.parametrize("flags", [("--no-enable-prefix-caching",)])
async def test_closing_the_stream_cancels_and_the_blocks_return(app, client):
    def value(name: str, labels: dict[str, str] | None = None) -> float:
        return app[METRICS].registry.get_sample_value(f"fastswitch_{name}", labels or {})

    stream = await client.chat.completions.create(
        **{**GREEDY, "max_tokens": 1500}, n=2, stream=True, extra_body={"ignore_eos": True}
    )
    async for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    assert value("kv_blocks_used") > 0
    await stream.close()
    while value("request_success_total", {"finished_reason": "cancelled"}) < 2 or value("num_requests_running"):
        await client.models.list()
    assert value("kv_blocks_used") == 0
