"""POST /v1/chat/completions as raw HTTP: what comes back, and that leaving cancels."""

import asyncio

import aiohttp
import pytest

from service.api.context import STREAMS
from service.errors import ShuttingDownError


class Nameless:
    """A tokenizer whose tokens have no bytes."""

    def encode(self, text: str) -> list[int]:
        return [1, 2, 3]


async def test_a_plain_answer_has_openais_shape(live):
    response = await live.chat(max_tokens=5)
    body = await response.json()
    assert response.status == 200
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    assert body["model"] == "tiny"
    (choice,) = body["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["role"] == "assistant"
    assert body["usage"]["completion_tokens"] == 5
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + 5


async def test_a_stream_begins_with_the_role_and_ends_with_the_reason(live):
    response = await live.chat(max_tokens=5, stream=True)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    chunks = await live.events(response)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}
    assert chunks[-1] == "[DONE]"
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1


async def test_a_stream_says_what_the_plain_answer_says(live):
    plain = await (await live.chat(max_tokens=30, seed=5)).json()
    chunks = await live.events(await live.chat(max_tokens=30, seed=5, stream=True))
    texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks[:-1]]
    assert "".join(texts) == plain["choices"][0]["message"]["content"]
    assert plain["choices"][0]["message"]["content"]


async def test_usage_comes_last_when_asked_for(live):
    chunks = await live.events(await live.chat(max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert chunks[-2]["choices"] == []
    assert chunks[-2]["usage"]["completion_tokens"] == 3
    assert all("usage" not in chunk for chunk in chunks[:-2])


async def test_every_chunk_has_its_choices_counts_when_asked_for(live):
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = (await live.events(await live.chat(n=2, max_tokens=3, stream=True, stream_options=options)))[:-1]
    own = [chunk["usage"]["completion_tokens"] for chunk in chunks if [c["index"] for c in chunk["choices"]] == [1]]
    assert own[0] == 0
    assert own == sorted(own)
    assert own[-1] == 3
    assert chunks[-1]["usage"]["completion_tokens"] == 6


async def test_options_of_a_stream_without_one_are_refused(live):
    response = await live.chat(stream_options={"include_usage": True})
    assert response.status == 400


async def test_the_same_seed_gives_the_same_answer_and_another_another(live):
    first, again, other = [
        (await (await live.chat(seed=seed, max_tokens=20)).json())["choices"][0]["message"]["content"]
        for seed in (1, 1, 2)
    ]
    assert first == again != other


async def test_choices_draw_from_successive_seeds(live):
    both = await (await live.chat(n=2, seed=7, max_tokens=20)).json()
    second = await (await live.chat(seed=8, max_tokens=20)).json()
    texts = [choice["message"]["content"] for choice in both["choices"]]
    assert [choice["index"] for choice in both["choices"]] == [0, 1]
    assert texts[0] != texts[1] == second["choices"][0]["message"]["content"]
    assert both["usage"]["completion_tokens"] == 40
    assert both["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"]


async def test_streamed_choices_each_have_role_text_and_reason(live):
    chunks = (await live.events(await live.chat(n=3, max_tokens=4, stream=True)))[:-1]
    for index in range(3):
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert own[-1]["finish_reason"] == "length"


async def test_a_stop_string_ends_the_answer(live):
    whole = (await (await live.chat(seed=3, max_tokens=40)).json())["choices"][0]["message"]["content"]
    stop = whole[len(whole) // 2 :][:3]
    shortened = (await (await live.chat(seed=3, max_tokens=40, stop=[stop])).json())["choices"][0]
    assert shortened["finish_reason"] == "stop"
    assert shortened["message"]["content"] == whole[: whole.index(stop)]


async def test_a_stop_token_ends_the_answer(serve):
    live = await serve(model={"stop_tokens": frozenset(range(384))})
    choice = (await (await live.chat(max_tokens=40)).json())["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("stop", "")
    choice = (await (await live.chat(max_tokens=40, ignore_eos=True)).json())["choices"][0]
    assert choice["finish_reason"] == "length"


async def test_without_a_limit_the_answer_fills_the_context(serve):
    live = await serve(model={"max_model_len": 100})
    response = await live.http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "Hi"}]})
    assert (await response.json())["usage"]["total_tokens"] == 100


async def test_text_parts_are_one_message(live):
    parts = [{"type": "text", "text": "Hi "}, {"type": "text", "text": "there"}]
    split = await (await live.chat(parts, seed=1)).json()
    whole = await (await live.chat("Hi there", seed=1)).json()
    assert split["choices"] == whole["choices"]


@pytest.mark.parametrize("stream", [False, True])
async def test_leaving_cancels_the_turn_and_its_blocks_return(serve, stream):
    live = await serve(limits={"prefix_sharing": "off"})
    before = (await live.gauges())["kv_blocks_used"]
    task = asyncio.create_task(live.chat(n=2, max_tokens=90_000, stream=stream))
    await live.until(lambda gauges: gauges["num_requests_running"] == 2)
    if stream:
        (await task).close()
    else:
        task.cancel()
    gauges = await live.until(lambda gauges: gauges["num_requests_running"] == 0)
    assert gauges["kv_blocks_used"] == before == 0
    cancelled = live.metrics.registry.get_sample_value(
        "fastswitch_request_success_total", {"finished_reason": "cancelled"}
    )
    assert cancelled == 2


async def test_an_error_in_mid_stream_is_an_event(live):
    response = await live.chat(stream=True, max_tokens=90_000)
    await response.content.readline()
    live.app[STREAMS].close(ShuttingDownError("going down"))
    last = (await live.events(response))[-1]
    assert last["error"]["code"] == "shutting_down"
    assert last["error"]["request_id"] == response.headers["X-Request-Id"]


async def test_an_internal_error_in_mid_stream_aborts_the_connection(talkative):
    live = await talkative(model={"tokenizer": Nameless()})
    live.runner.hold()
    response = await live.chat(stream=True, logprobs=True)
    live.runner.release()
    with pytest.raises(aiohttp.ClientPayloadError):
        await live.events(response)
    assert (await live.http.get("/ready")).status == 200


async def test_silence_is_filled_with_comments(serve):
    live = await serve(limits={"keep_alive_s": 0.01})
    live.runner.hold()
    response = await live.chat(stream=True, max_tokens=2)
    while await response.content.readline() != b": waiting\n":
        assert not response.content.at_eof()
    live.runner.release()
    assert (await live.events(response))[-1] == "[DONE]"
