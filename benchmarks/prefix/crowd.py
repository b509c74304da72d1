"""A crowd on one long system prompt: how often it is computed, what it holds, and how soon one more is answered."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import takewhile
from math import ceil
from pathlib import Path
from typing import Any

import aiohttp

from allocator import BLOCK_TOKENS
from benchmarks.peers.client import Answer, ChatClient, Messages, RequestFailedError
from benchmarks.peers.commands import serve
from benchmarks.peers.load import words
from benchmarks.peers.server import PeerServer, running
from benchmarks.prefix.counters import settled
from benchmarks.prefix.trace import block_bytes
from benchmarks.server import scrape
from service.execution.models.loading import open_model

RUNNING, USED = "fastswitch_num_requests_running", "fastswitch_kv_blocks_used"
SCRAPE_S = 0.05


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the crowd. ``fitting``: how many fit into the scarce memory if nothing is shared."""

    conversations: int = 64
    system_words: int = 2_000
    user_words: int = 30
    max_tokens: int = 48
    fitting: int = 8


@dataclass(frozen=True, slots=True)
class Need:
    """Blocks: ``shared`` of what all prompts begin with, ``alone`` of one conversation that shares none of them."""

    shared: int
    alone: int

    def blocks(self, conversations: int) -> int:
        """Return the blocks of one prefix and the tails of all conversations."""
        return self.shared + conversations * (self.alone - self.shared)


async def measure(model: Path, flags: str, sizes: Sizes) -> dict[str, Any]:
    """Return figures on memory for all without sharing, and on memory for few of them."""
    need = need_of(model, sizes)
    blocks = {"ample": (sizes.conversations + 2) * need.alone, "scarce": sizes.fitting * need.alone}
    found: dict[str, Any] = {"sizes": asdict(sizes)}
    for name, most in blocks.items():
        command = serve(model, f"--device-kv {most * block_bytes(model)} --host-kv 0", flags)
        async with running(command, model) as server:
            found[name] = {"command": command, "blocks": most, **await gather(server, sizes)}
    return {**found, "wanted": _wanted(need, sizes.conversations, found["ample"]["prompt_tokens"])}


def need_of(model: Path, sizes: Sizes) -> Need:
    """Return what the crowd needs, by the model's own tokens. The last token of an answer has no KV."""
    opened = open_model(model)
    prompts = [opened.tokenizer.encode(opened.chat_template.render(prompt(sizes, n))) for n in range(2)]
    whole = max(map(len, prompts)) + sizes.max_tokens - 1
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*prompts, strict=False)))
    return Need(common // BLOCK_TOKENS, ceil(whole / BLOCK_TOKENS))


def _wanted(need: Need, conversations: int, prompt_tokens: int) -> dict[str, int]:
    """Return what is held and computed if the prefix is once, and every tail by itself."""
    saved = (conversations - 1) * need.shared * BLOCK_TOKENS
    return {"blocks": need.blocks(conversations), "computed_tokens": prompt_tokens - saved}


def prompt(sizes: Sizes, number: int, system: str = "crowd") -> Messages:
    """Return what one of the crowd asks; ``system`` is the key of the system prompt's words."""
    texts = {"system": words(system, sizes.system_words), "user": words(f"{system} {number}", sizes.user_words)}
    return [{"role": role, "content": " ".join(text)} for role, text in texts.items()]


async def gather(server: PeerServer, sizes: Sizes) -> dict[str, Any]:
    """Ask all at once, then one more, then one of another system prompt, which is what a first one takes."""
    client = server.client
    idle, before = await scrape(client.url), await settled(client.url)
    async with watched(client.url) as seen:
        crowd = await asyncio.gather(*(_ask(client, prompt(sizes, n), sizes) for n in range(sizes.conversations)))
    counted = (await settled(client.url)).since(before)
    held = await scrape(client.url)
    later = await _ask(client, prompt(sizes, sizes.conversations), sizes)
    first = await _ask(client, prompt(sizes, 0, "another"), sizes)
    answered: Sequence[Answer] = [each for each in crowd if each is not None]
    return {
        "answered": len(answered),
        "prompt_tokens": sum(each.prompt_tokens for each in answered),
        "computed_tokens": counted.computed,
        "running_peak": int(max(seen[RUNNING])),
        "blocks_peak": int(max(seen[USED]) - idle[USED]),
        "blocks_after": int(held[USED] - idle[USED]),
        "crowd_ttft_s": sorted(each.ttft for each in answered)[:: max(1, len(answered) - 1)],  # the least and the most
        "first_ttft_s": None if first is None else first.ttft,
        "later_ttft_s": None if later is None else later.ttft,
        "later_cached_tokens": None if later is None else later.cached_tokens,
    }


async def _ask(client: ChatClient, messages: Messages, sizes: Sizes) -> Answer | None:
    try:
        return await client.ask(messages, sizes.max_tokens)
    except (RequestFailedError, aiohttp.ClientError) as error:
        print(error, flush=True)
        return None


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[dict[str, list[float]]]:
    """Collect the values of both gauges during the block."""
    seen: dict[str, list[float]] = {RUNNING: [0.0], USED: [0.0]}

    async def watch() -> None:
        while True:
            samples = await scrape(url)
            for name, values in seen.items():
                values.append(samples[name])
            await asyncio.sleep(SCRAPE_S)

    async with asyncio.TaskGroup() as group:  # a gauge that is not there ends the block
        watching = group.create_task(watch())
        yield seen
        watching.cancel()
