"""A canary text is sent in every kind of input; neither the log nor the metrics may ever contain it."""

import asyncio
import io
import json

import pytest

from service.execution.models.chat_template import ChatTemplate

CANARY = "canary-7c1e"
CHAT = "/v1/chat/completions"


def sung(log: io.StringIO) -> list[dict]:
    """The log so far, as objects; fails if the canary is in it."""
    assert CANARY not in log.getvalue()
    return [json.loads(line) for line in log.getvalue().splitlines()]


def conversation(content: object = CANARY, **fields: object) -> dict:
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 3, **fields}


REQUESTS = {
    "a question": conversation(),
    "a stream": conversation(stream=True),
    "a system prompt": {"messages": [{"role": "system", "content": CANARY}], "max_tokens": 2},
    "a user": conversation("Hi", user=CANARY),
    "a stop string": conversation("Hi", stop=CANARY),
    "a model": conversation("Hi", model=CANARY),
    "an unknown field": conversation("Hi", **{CANARY: CANARY}),
    "a wrong type": conversation("Hi", temperature=CANARY),
    "a role": {"messages": [{"role": CANARY, "content": "Hi"}]},
    "a part": conversation([{"type": CANARY, "text": CANARY}]),
    "a token to bias": conversation("Hi", logit_bias={CANARY: 1}),
    "too much of it": conversation(CANARY * 10_000),
    "an unsupported field": conversation("Hi", response_format={"type": CANARY}),
}


@pytest.mark.parametrize("case", REQUESTS)
async def test_bodies(log, live, case):
    response = await live.http.post(CHAT, json=REQUESTS[case])
    await response.read()
    assert CANARY not in await (await live.http.get("/metrics")).text()
    entries = [entry for entry in sung(log) if entry.get("route") == CHAT]
    assert [entry["status"] for entry in entries] == [response.status]
    assert entries[0]["request_id"] == response.headers["X-Request-Id"]


@pytest.mark.parametrize("raw", [CANARY.encode(), f'{{"{CANARY}'.encode(), b'{"messages": "\xff' + CANARY.encode()])
async def test_bodies_that_are_no_json(log, live, raw):
    assert (await live.http.post(CHAT, data=raw)).status == 400
    sung(log)


async def test_paths_headers_and_queries(log, live):
    for path in (f"/{CANARY}", f"/v1/models/{CANARY}", f"/health?{CANARY}", f"/v1/models?x={CANARY}"):
        await live.http.get(path, headers={"User-Agent": CANARY, "Origin": f"http://{CANARY}", "Cookie": CANARY})
    await live.http.request(CANARY, "/health")
    assert CANARY not in await (await live.http.get("/metrics")).text()
    sung(log)


@pytest.mark.parametrize(
    "line", [f"{CANARY}\r\n\r\n", f"GET /{CANARY} HTTP/9.9\r\n\r\n", f"POST / HTTP/1.1\r\n{CANARY}\r\n\r\n"]
)
async def test_what_is_not_even_http(log, live, line):
    reader, writer = await asyncio.open_connection(*live.address)
    writer.write(line.encode())
    assert b"400" in await reader.readline()
    writer.close()
    sung(log)


async def test_a_template_that_quotes(log, serve):
    quoting = ChatTemplate("{{ raise_exception(messages[0].content) }}")
    live = await serve(model={"chat_template": quoting})
    assert (await live.http.post(CHAT, json=conversation())).status == 400
    sung(log)


async def test_a_fault_of_ours_is_logged_by_its_frames(log, serve):
    class Quoting:
        def render(self, messages: list, add_generation_prompt: bool, variables: dict) -> str:
            raise RuntimeError(messages[0]["content"])

    live = await serve(model={"chat_template": Quoting()})
    response = await live.http.post(CHAT, json=conversation())
    error = (await response.json())["error"]
    assert (response.status, error["code"]) == (500, "internal_error")
    assert CANARY not in error["message"]
    (fault,) = [entry for entry in sung(log) if entry["event"] == "handler_failed"]
    assert fault["request_id"] == error["request_id"]
    assert fault["exception"] == "builtins.RuntimeError"
    assert fault["frames"][-1].endswith(" render")


async def test_a_step_that_fails_with_it(log, broken):
    live = await broken(CANARY)
    assert (await live.http.post(CHAT, json=conversation())).status == 500
    (fault,) = [entry for entry in sung(log) if entry["event"] == "step_failed"]
    assert fault["frames"][-1].endswith(" run")
