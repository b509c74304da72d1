"""Whose KV a turn may reuse: that of its tenant, whatever connection carries it."""

from typing import Any

import aiohttp

QUESTION = {"role": "user", "content": "Tell me something that is long enough to be worth keeping, please."}
BODY = {"messages": [QUESTION], "max_tokens": 20, "seed": 1}


async def chat(live, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """POST a conversation over a connection of its own, as many clients do."""
    async with (
        aiohttp.ClientSession(live.url) as http,
        http.post("/v1/chat/completions", json={**BODY, **fields}, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json()


def continued(answer: dict[str, Any]) -> list[dict[str, str]]:
    return [QUESTION, answer["choices"][0]["message"], {"role": "user", "content": "Go on"}]


def cached(answer: dict[str, Any]) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


async def test_the_next_turn_reuses_its_history_over_another_connection(live):
    first = await chat(live)
    second = await chat(live, messages=continued(first))
    assert first["usage"]["prompt_tokens"] - 1 <= cached(second) < second["usage"]["prompt_tokens"]
