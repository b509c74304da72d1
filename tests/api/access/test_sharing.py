"""Whose KV a turn may reuse: that of its tenant, whatever connection carries it, unless it is narrowed."""

from typing import Any

import aiohttp
import pytest

from service.api.access.sharing import Sharing

QUESTION = {"role": "user", "content": "Tell me something that is long enough to be worth keeping, please."}
BODY = {"messages": [QUESTION], "max_tokens": 20, "seed": 1}
CHAT = "/v1/chat/completions"


async def chat(live, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    """POST a conversation over a connection of its own, as many clients do."""
    async with (
        aiohttp.ClientSession(live.url) as http,
        http.post(CHAT, json={**BODY, **fields}, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        return await response.json()


def continued(answer: dict[str, Any]) -> list[dict[str, str]]:
    return [QUESTION, answer["choices"][0]["message"], {"role": "user", "content": "Go on"}]


def cached(answer: dict[str, Any]) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def computed(live) -> float:
    """Prompt tokens that the model has computed so far."""
    return live.metrics.registry.get_sample_value("fastswitch_computed_tokens_total", {"phase": "prefill"})


async def test_the_next_turn_reuses_its_history_over_another_connection(live):
    first = await chat(live)
    before = computed(live)
    second = await chat(live, messages=continued(first))
    prompts = first["usage"]["prompt_tokens"], second["usage"]["prompt_tokens"]
    assert prompts[0] - 1 <= cached(second) < prompts[1]
    assert computed(live) - before == prompts[1] - cached(second)


async def test_clients_at_different_addresses_share_blocks(live):
    await chat(live)
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with aiohttp.ClientSession(live.url, connector=connector) as http, http.post(CHAT, json=BODY) as response:
        assert cached(await response.json()) > 0


@pytest.mark.parametrize(
    ("sharing", "first", "second", "reuses"),
    [
        ("tenant", {"user": "ann"}, {"user": "bob"}, True),
        ("user", {"user": "ann"}, {"user": "ann"}, True),
        ("user", {"user": "ann"}, {"user": "bob"}, False),
        ("user", {}, {}, True),
        ("user", {"user": "ann"}, {}, False),
        ("off", {"user": "ann"}, {"user": "ann"}, False),
        ("tenant", {"cache_salt": "s"}, {"cache_salt": "s"}, True),
        ("tenant", {"cache_salt": "s"}, {"cache_salt": "t"}, False),
        ("tenant", {"cache_salt": "s"}, {}, False),
        ("tenant", {}, {"cache_salt": "s"}, False),
        ("user", {"user": "ann", "cache_salt": "s"}, {"user": "bob", "cache_salt": "s"}, False),
    ],
)
async def test_a_turn_reuses_the_kv_of_its_scope_alone(serve, sharing, first, second, reuses):
    live = await serve(limits={"prefix_sharing": sharing})
    await chat(live, **first)
    before = computed(live)
    again = await chat(live, **second)
    assert (cached(again) > 0) is reuses
    assert (computed(live) - before < again["usage"]["prompt_tokens"]) is reuses


async def test_no_tenant_reuses_anothers_kv(serve, tenants):
    live = await serve(keys=tenants.keys())
    found = {
        name: cached(await chat(live, headers=tenants.headers(name), cache_salt="s"))
        for name in ("alice", "bob", "ops")
    }
    assert found == {"alice": 0, "bob": 0, "ops": 0}
    assert cached(await chat(live, headers=tenants.headers("alice"), cache_salt="s")) > 0


async def test_choices_of_a_prompt_share_it_and_none_of_it_was_there_before(live):
    first = await chat(live, n=3)
    assert cached(first) == 0
    assert computed(live) < 2 * first["usage"]["prompt_tokens"]
    assert cached(await chat(live, n=3)) >= first["usage"]["prompt_tokens"] // 16 * 16


async def test_prompts_of_one_request_share_what_they_begin_with(live):
    prompts = [QUESTION["content"] * 3 + end for end in ("one", "two")]
    answer = await (await live.complete(prompts)).json()
    assert computed(live) < answer["usage"]["prompt_tokens"]
    assert cached(answer) == answer["usage"]["prompt_tokens"] - computed(live)


@pytest.mark.parametrize("route", ["chat", "complete"])
async def test_every_usage_says_how_much_was_reused(live, route):
    ask = getattr(live, route)
    whole = await (await ask(QUESTION["content"])).json()
    options = {"include_usage": True, "continuous_usage_stats": True}
    *chunks, end = await live.events(await ask(QUESTION["content"], stream=True, stream_options=options))
    assert end == "[DONE]"
    assert cached(whole) == 0
    assert cached(chunks[-1]) > 0
    assert all("cached_tokens" in chunk["usage"]["prompt_tokens_details"] for chunk in chunks)


async def test_a_salt_shows_nowhere(live, log):
    await chat(live, cache_salt="canary-salt", user="ann")
    for path in ("/metrics", "/debug/state"):
        assert "canary" not in await (await live.http.get(path)).text()
    assert "canary" not in log.getvalue()


def test_two_servers_mix_a_salt_differently_and_show_no_secret():
    one, other = Sharing("tenant"), Sharing("tenant")
    assert one.scope("a", "", "salt") == one.scope("a", "", "salt") != other.scope("a", "", "salt")
    assert one.secret.hex() not in repr(one)
    assert repr(one.secret) not in repr(one)
