"""POST /v1/completions as raw HTTP, over the simulated data plane and, where logits matter, a tiny model."""

from pathlib import Path

import pytest

from service.execution.kv import KVPools
from service.execution.models.loading import load_model
from service.execution.runner import CPURunner


@pytest.fixture
async def tiny(serve, tiny_model_path: Path):
    """A server of the tiny model itself."""
    loaded = load_model(tiny_model_path)
    runner = CPURunner(
        loaded.config, loaded.weights, pools=KVPools.plain(loaded.config, 64), num_slots=16, max_batched_tokens=256
    )
    return await serve(runner, core={"device_blocks": 64}, model={"max_model_len": 512})


async def test_a_completion_has_openais_shape(live):
    response = await live.complete(max_tokens=5)
    body = await response.json()
    (choice,) = body["choices"]
    assert (response.status, body["object"], body["id"][:5]) == (200, "text_completion", "cmpl-")
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert choice["text"]
    assert body["usage"]["completion_tokens"] == 5


async def test_without_a_limit_it_has_16_tokens(live):
    response = await live.http.post("/v1/completions", json={"prompt": "Hi"})
    assert (await response.json())["usage"]["completion_tokens"] == 16


async def test_token_ids_are_the_same_prompt_as_their_text(live, tokenizer):
    text = "Once upon a time"
    as_text, as_ids = [
        await (await live.complete(prompt, seed=4)).json() for prompt in (text, tokenizer.encode_prompt(text))
    ]
    assert as_text["choices"] == as_ids["choices"]


@pytest.mark.parametrize("prompts", [["one", "two and more"], [[1, 2, 3], [4]]])
async def test_several_prompts_are_several_choices_each_as_if_alone(live, prompts):
    together = await (await live.complete(prompts, seed=4, n=2)).json()
    alone = [await (await live.complete(prompt, seed=4, n=2)).json() for prompt in prompts]
    assert [choice["index"] for choice in together["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in together["choices"]] == [
        choice["text"] for answer in alone for choice in answer["choices"]
    ]
    for counted in ("prompt_tokens", "completion_tokens"):
        assert together["usage"][counted] == sum(answer["usage"][counted] for answer in alone)


async def test_a_stream_says_what_the_plain_answer_says(live):
    plain = await (await live.complete(["a", "b"], seed=5, max_tokens=30)).json()
    chunks = await live.events(await live.complete(["a", "b"], seed=5, max_tokens=30, stream=True))
    assert chunks[-1] == "[DONE]"
    for choice in plain["choices"]:
        own = [c["choices"][0] for c in chunks[:-1] if c["choices"][0]["index"] == choice["index"]]
        assert "".join(chunk["text"] for chunk in own) == choice["text"]
        assert [chunk["finish_reason"] for chunk in own] == [None] * (len(own) - 1) + ["length"]


@pytest.mark.parametrize("prompt", ["Once <|im_start|>", [5, 6, 7]])
async def test_echo_puts_the_prompt_before_the_answer(live, tokenizer, prompt):
    plain = await (await live.complete(prompt, seed=5)).json()
    echoed = await (await live.complete(prompt, seed=5, echo=True)).json()
    chunks = await live.events(await live.complete(prompt, seed=5, echo=True, stream=True))
    text = prompt if isinstance(prompt, str) else tokenizer.decode(prompt, skip_special=False)
    assert echoed["choices"][0]["text"] == text + plain["choices"][0]["text"]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks[:-1]) == echoed["choices"][0]["text"]


async def test_logprobs_are_four_lists_of_one_length(tiny):
    body = await (await tiny.complete(seed=2, max_tokens=6, logprobs=3)).json()
    logprobs = body["choices"][0]["logprobs"]
    assert {len(values) for values in logprobs.values()} == {6}
    for token, logprob, top in zip(
        logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True
    ):
        assert 3 <= len(top) <= 4
        assert top[token] == pytest.approx(logprob)
        assert max(top.values()) <= 0
    lengths = [len(token) for token in logprobs["tokens"]]
    assert logprobs["text_offset"] == [sum(lengths[:index]) for index in range(6)]


async def test_streamed_logprobs_are_the_plain_ones_in_pieces(tiny):
    fields = {"seed": 2, "max_tokens": 6, "logprobs": 0}
    plain = (await (await tiny.complete(**fields)).json())["choices"][0]["logprobs"]
    chunks = await tiny.events(await tiny.complete(**fields, stream=True))
    pieces = [chunk["choices"][0]["logprobs"] for chunk in chunks[:-1]]
    joined = {name: [value for piece in pieces if piece for value in piece[name]] for name in plain}
    assert joined["tokens"] == plain["tokens"]
    assert joined["text_offset"] == plain["text_offset"]
    assert [len(top) for top in joined["top_logprobs"]] == [1] * 6


async def test_sampling_fields_are_the_chats(tiny):
    body = await (await tiny.complete(max_tokens=3, temperature=0, logit_bias={"65": 100}, priority=3)).json()
    only = (await (await tiny.http.post("/detokenize", json={"tokens": [65] * 3})).json())["prompt"]
    assert body["choices"][0]["text"] == only


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": ["a", ""]}, "prompt.1"),
        ({"prompt": [1, "a"]}, "prompt.0"),
        ({"prompt": [384]}, "prompt"),
        ({"prompt": [[1], [-1]]}, "prompt"),
        ({"prompt": ["a"] * 2, "n": 65}, None),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 2}, "best_of"),
        ({"prompt": "a", "echo": True, "logprobs": 1}, None),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": "a", "logprobs": True}, "logprobs"),
        ({"prompt": "a", "max_tokens": 10**6}, "prompt"),
        ({"prompt": "x" * 4_000_000}, "prompt"),
        ({"messages": []}, "prompt"),
    ],
)
async def test_what_cannot_be_done_is_400_and_names_the_field(live, fields, param):
    response = await live.http.post("/v1/completions", json=fields)
    error = (await response.json())["error"]
    assert (response.status, error["param"]) == (400, param)
    assert (await live.complete()).status == 200


async def test_one_refused_choice_ends_them_all(serve):
    live = await serve(core={"max_num_seqs": 1, "max_num_queued_reqs": 2})
    live.runner.hold()
    response = await live.complete(["a"] * 4)
    assert (response.status, (await response.json())["error"]["code"]) == (429, "server_overloaded")
    live.runner.release()
    gauges = await live.until(lambda gauges: gauges["num_requests_running"] + gauges["num_requests_waiting"] == 0)
    assert gauges["kv_blocks_used"] == 0
