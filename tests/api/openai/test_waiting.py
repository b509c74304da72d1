"""Clients that really wait: they are told where, and not longer than the settings allow."""

import re

import openai
import pytest

from clients.client import Client

ONE_SLOT = {"max_num_seqs": 1}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report places often, so that no test waits for one."""
    monkeypatch.setattr("service.api.openai.generate.REPORT_EVERY_S", 0.01)


async def begin(live, stepped, **fields):
    """Start an answer, which holds the only slot until more steps are allowed."""
    stepped.allow(1)
    return await live.chat(stream=True, **fields)


async def lines_until(response, pattern: re.Pattern[bytes]) -> list[bytes]:
    """Read lines up to one that matches."""
    lines = []
    while not lines or not pattern.fullmatch(lines[-1]):
        line = await response.content.readline()
        assert line, lines
        lines.append(line)
    return lines


async def test_a_full_queue_says_when_to_come_back(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT | {"max_num_queued_reqs": 1})
    running = await begin(live, stepped, max_tokens=50)
    waiting = await live.chat(stream=True)  # its headers come with its first comment
    refused = await live.chat()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "5")  # nobody who waited has started yet
    assert (await refused.json())["error"]["code"] == "server_overloaded"
    stepped.allow()
    assert b"[DONE]" in await running.read()
    assert b"[DONE]" in await waiting.read()
    assert (await live.chat()).status == 200


async def test_retry_after_is_what_was_served_lately(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT | {"max_num_queued_reqs": 2}, limits={"max_open_requests": 100})
    first = await begin(live, stepped, max_tokens=50)
    second = await live.chat(stream=True, max_tokens=50_000)
    stepped.allow(60)
    await first.read()
    third, fourth = [await live.chat(stream=True) for _ in range(2)]
    await lines_until(fourth, re.compile(rb": queued position=2 .*\n"))
    refused = await live.chat()
    assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
    for response in (second, third, fourth):
        response.close()


async def test_prompt_tokens_that_wait_are_bounded(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT | {"max_num_queued_tokens": 100})
    running = await begin(live, stepped, max_tokens=20)
    waiting = await live.chat("x" * 200, stream=True)  # more than the limit, but nobody else waits
    refused = await live.chat("x")
    error = (await refused.json())["error"]
    assert (refused.status, error["code"]) == (429, "server_overloaded")
    assert "the limit is 100" in error["message"]
    assert int(refused.headers["Retry-After"]) >= 1
    stepped.allow()
    assert b"[DONE]" in await running.read()
    assert b"[DONE]" in await waiting.read()


async def test_a_whole_answer_that_waited_too_long_is_503_and_others_go_on(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT | {"queue_timeout_s": 0.05})
    running = await begin(live, stepped, max_tokens=3000)
    refused = await stepped.until(live.chat())
    error = (await refused.json())["error"]
    assert (refused.status, error["code"], error["type"]) == (503, "queue_timeout", "service_unavailable_error")
    assert int(refused.headers["Retry-After"]) >= 1
    assert re.match(r"the request waited \d+\.\d s, the limit is 0\.05 s", error["message"])
    stepped.allow()
    assert b"[DONE]" in await running.read()
    assert (await live.chat()).status == 200
    await live.until(lambda gauges: gauges["num_requests_running"] + gauges["num_requests_waiting"] == 0)


async def test_a_stream_that_waited_too_long_ends_with_an_error_event(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT | {"queue_timeout_s": 0.05})
    running = await begin(live, stepped, max_tokens=3000)
    waiting = await live.chat(stream=True)
    assert waiting.status == 200
    (event,) = await stepped.until(live.events(waiting))
    assert event["error"]["code"] == "queue_timeout"
    stepped.allow()
    assert b"[DONE]" in await running.read()


async def test_a_stream_tells_its_place_until_it_starts(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT)
    running = await begin(live, stepped, max_tokens=3)
    second = await live.chat(stream=True, max_tokens=2)
    third = await live.chat(stream=True, max_tokens=2)
    await lines_until(third, re.compile(rb": queued position=2\n"))
    stepped.allow(1)  # only a step says why they wait
    await lines_until(third, re.compile(rb": queued position=2 reason=slot\n"))
    stepped.allow(2)  # the first ends, the second starts
    await lines_until(third, re.compile(rb": queued position=1 reason=slot estimate=\d+s\n"))
    stepped.allow()
    for response in (running, second, third):
        rest = await response.read()
        assert rest.endswith(b"data: [DONE]\n\n")
        assert rest.rfind(b": queued") < rest.find(b"data: ")


async def test_openai_client_passes_over_the_comments(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT)
    running = await begin(live, stepped, max_tokens=2)
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0) as client:
        question = [{"role": "user", "content": "Hello"}]
        stream = await client.chat.completions.create(model="tiny", messages=question, max_tokens=3, stream=True)
        await live.chat(stream=True)  # its answer's headers come with its first comment: both wait
        stepped.allow()
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices[0].finish_reason == "length"
    assert b"[DONE]" in await running.read()


async def test_our_client_reads_its_place(serve, stepped):
    live = await serve(stepped, core=ONE_SLOT)
    running = await begin(live, stepped, max_tokens=2)
    second = await live.chat(stream=True)
    async with Client(live.url) as client:
        chunks = []
        async for chunk in client.chat([{"role": "user", "content": "Hello"}], max_tokens=3):
            chunks.append(chunk)
            if chunk.queued is not None:
                assert chunk.text == ""
                stepped.allow()
    assert chunks[0].queued.position == 2
    assert chunks[-1].usage.completion_tokens == 3
    assert b"[DONE]" in await running.read()
    assert b"[DONE]" in await second.read()
