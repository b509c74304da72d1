"""System prompts that are computed before the server is ready, so that nobody waits for them.

Each is computed once in every scope in which requests may share it: without keys that is one, with keys there is one
for each tenant. It does not expire, but goes to the host, and in the end is dropped, when its blocks are needed.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web

from service.api.context import KEYS, SHARING, STREAMS, ServedModel
from service.api.openai.turns import answer_limit, encode_chat
from service.core.messages.commands import Submit
from service.core.messages.sampling import SamplingParams
from service.engine import Turn
from service.errors import ConfigError, RequestError, StartupError

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WarmPrompt:
    """A system prompt, as the tokens of a conversation that begins with it."""

    path: Path
    tokens: tuple[int, ...]


def read_warm_prompt(path: Path, model: ServedModel) -> WarmPrompt:
    """Return the system prompt in a file of text. Spaces around it do not count. Raises `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"--warm-prompt {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"--warm-prompt {path}: {error}") from error
    if not text:
        raise ConfigError(f"--warm-prompt {path}: the file is empty")
    try:
        tokens = encode_chat([{"role": "system", "content": text}, {"role": "user", "content": ""}], model, {})
        answer_limit(len(tokens), 1, model, "messages")
    except RequestError as error:
        raise ConfigError(f"--warm-prompt {path}: {error}") from error
    return WarmPrompt(path, tokens)


async def compute_warm_prompts(prompts: Sequence[WarmPrompt], app: web.Application) -> None:
    """Compute prompts for all who may share them. The engine runs. Raises `StartupError`."""
    for prompt in prompts:
        for tenant in app[KEYS].tenants:
            began = time.perf_counter()
            await _compute(prompt, app[SHARING].scope(tenant, "", None), app)
            seconds = round(time.perf_counter() - began, 3)
            log.info("prompt_warmed", file=str(prompt.path), tenant=tenant, tokens=len(prompt.tokens), seconds=seconds)


async def _compute(prompt: WarmPrompt, scope: tuple[str, ...] | None, app: web.Application) -> None:
    submit = Submit(
        request_id="warm-prompt",
        prompt=prompt.tokens,
        max_tokens=1,
        sampling_params=SamplingParams(temperature=0),
        stop_tokens=frozenset(),
        scope=scope,
        does_not_expire=True,
    )
    try:
        with app[STREAMS].open([Turn(submit)]) as stream:
            while not stream.done:
                await stream.take()
    except RequestError as error:
        raise StartupError(f"--warm-prompt {prompt.path}: {error}") from error
