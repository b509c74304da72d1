"""System prompts that are computed before the server is ready."""

from pathlib import Path
from typing import Any

import pytest

from service.api.warm_prompts import read_warm_prompt
from service.config import parse
from service.errors import ConfigError, StartupError
from service.execution.models.chat_template import ChatTemplate
from tests.api.conftest import PoisonedRunner, served_model

SYSTEM = "You are the assistant of a library. Answer briefly, name your sources, and never invent a book. " * 4
ASKED = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Which book is the oldest one?"}]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "system.txt"
    path.write_text(SYSTEM + "\n")
    return path


def cached(answer: dict[str, Any]) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


async def test_the_first_question_computes_only_what_follows_the_system_prompt(serve, file):
    live = await serve(system_prompts=[file])
    warmed = live.metrics.registry.get_sample_value("fastswitch_computed_tokens_total", {"phase": "prefill"})
    answer = await (await live.chat(messages=[{**ASKED[0], "content": SYSTEM.strip()}, ASKED[1]])).json()
    computed = live.metrics.registry.get_sample_value("fastswitch_computed_tokens_total", {"phase": "prefill"}) - warmed
    assert cached(answer) == answer["usage"]["prompt_tokens"] - computed
    assert computed < 16 + len(ASKED[1]["content"])  # what is not a whole block, and the question
    assert cached(answer) >= warmed - 32


async def test_each_tenant_has_its_own(serve, tenants, file):
    live = await serve(system_prompts=[file], keys=tenants.keys())
    for name in ("alice", "bob"):
        messages = [{**ASKED[0], "content": SYSTEM.strip()}, ASKED[1]]
        assert cached(await (await tenants.chat(live, name, messages=messages)).json()) > 100


async def test_no_tenant_pays_for_it(serve, tenants, file):
    live = await serve(system_prompts=[file], keys=tenants.keys("[tenants.bob]\ntokens_per_minute = 9000\n"))
    assert live.metrics.registry.get_sample_value("fastswitch_tenant_prompt_tokens_total", {"tenant": "bob"}) is None


async def test_a_model_that_fails_on_it_ends_the_start(serve, file):
    runner = PoisonedRunner()
    runner.bad_seeds.add(0)
    with pytest.raises(StartupError, match=r"system\.txt: the model failed"):
        await serve(runner, system_prompts=[file])


@pytest.mark.parametrize(
    ("content", "fields", "problem"),
    [
        (b" \n", {}, "the file is empty"),
        (b"\xff\xfe", {}, "codec can't decode"),
        (b"Be brief", {"chat_template": ChatTemplate(None)}, "this model has no chat template"),
        (b"Be brief " * 99, {"max_model_len": 50}, "maximum context length is 50 tokens"),
        (b"Be brief " * 99, {"capacity_tokens": 48}, "holds 48 tokens"),
    ],
)
def test_a_file_that_is_no_system_prompt_is_named(tokenizer, tmp_path, content, fields, problem):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    served = served_model(**{"tokenizer": tokenizer, "capacity_tokens": 10_000, **fields})
    with pytest.raises(ConfigError, match=rf"--warm-prompt \S+bad\.txt: .*{problem}"):
        read_warm_prompt(path, served)


@pytest.mark.parametrize("flags", [["--warm-prompt", "{0},{0}"], ["--warm-prompt", "{0}", "--warm-prompt", "{0}"]])
def test_several_files_are_named_in_either_way(file, flags):
    assert parse([flag.format(file) for flag in flags]).warm_prompt == (file, file)


def test_a_file_that_is_not_there_is_found_out_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match=r"--warm-prompt.*Path does not point to a file"):
        parse(["--warm-prompt", str(tmp_path / "none.txt")])


def test_it_needs_sharing(file):
    with pytest.raises(ConfigError, match="of no use where no request reuses"):
        parse(["--warm-prompt", str(file), "--no-enable-prefix-caching"])
