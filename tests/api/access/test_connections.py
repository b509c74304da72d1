"""A client without key and user is known by its connection, and forgotten with it."""

import aiohttp

HELLO = {"messages": [{"role": "user", "content": "Hi there"}], "max_tokens": 4, "seed": 1}


async def chat(http: aiohttp.ClientSession, **fields) -> dict:
    async with http.post("/v1/chat/completions", json={**HELLO, **fields}) as response:
        return await response.json()


def continued(answer: dict) -> list[dict]:
    said = answer["choices"][0]["message"]["content"]
    return [*HELLO["messages"], {"role": "assistant", "content": said}, {"role": "user", "content": "And?"}]


async def test_its_conversation_goes_on_while_the_connection_lasts(live):
    async with aiohttp.ClientSession(live.url) as http:
        first = await chat(http)
        assert (await chat(http, messages=continued(first)))["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


async def test_its_conversation_goes_when_the_connection_closes(live):
    async with aiohttp.ClientSession(live.url) as http:
        await chat(http)
        await live.until(lambda gauges: gauges["idle_sessions"] == 1)
    gauges = await live.until(lambda gauges: gauges["idle_sessions"] == 0)
    assert gauges["kv_blocks_used"] == gauges["kv_blocks_reserved"] == 0


async def test_a_turn_that_its_client_left_is_not_kept(live):
    async with aiohttp.ClientSession(live.url) as http:
        response = await http.post("/v1/chat/completions", json={**HELLO, "max_tokens": 50_000, "stream": True})
        await response.content.readline()
        response.close()
        await live.until(lambda gauges: gauges["num_requests_running"] == gauges["idle_sessions"] == 0)


async def test_the_conversation_of_a_named_user_outlives_the_connection(live):
    async with aiohttp.ClientSession(live.url) as http:
        first = await chat(http, user="ann")
    async with aiohttp.ClientSession(live.url) as http:
        again = await chat(http, user="ann", messages=continued(first))
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
