"""The chats that every server is sent: the same messages at the same times, answers of the assistant included.

What a server draws is not sent back, so all see the same prompts. All conversations have one system message.
"""

import json
import random
from dataclasses import asdict, dataclass
from hashlib import sha256
from math import ceil
from pathlib import Path

from allocator import BLOCK_TOKENS
from benchmarks.peers.client import Messages
from benchmarks.peers.load import words
from service.execution.kv import KVFormat
from service.execution.models.loading import open_model


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a trace; pairs are drawn evenly between. ``for_each_fitting``: conversations for each that fits."""

    conversations: int = 200
    turns: int = 4
    system_words: int = 200
    user_words: tuple[int, int] = (16, 64)
    assistant_words: tuple[int, int] = (32, 96)
    max_tokens: int = 16
    begin_s: float = 60.0  # in which all conversations begin
    think_s: tuple[float, float] = (5.0, 75.0)  # from when a turn is due to when the next one is
    for_each_fitting: int = 4
    in_flight: int = 8  # most turns without a whole answer: a slow server is asked later, not in another order


@dataclass(frozen=True, slots=True)
class Conversation:
    """``messages``: those of the last turn. ``due_s``: when each turn is to be sent, for ``max_tokens`` of answer."""

    messages: Messages
    due_s: tuple[float, ...]
    max_tokens: int

    def prompt(self, turn: int) -> Messages:
        """Return what is sent in turn number ``turn``: the system's, and one more pair of messages for each before."""
        return self.messages[: 2 + 2 * turn]


def draw(sizes: Sizes) -> list[Conversation]:
    """Return the conversations, always the same."""
    return [_conversation(sizes, number) for number in range(sizes.conversations)]


def digest(conversations: list[Conversation]) -> str:
    """Return a name for the trace, so that figures of different ones are never compared."""
    return sha256(json.dumps([asdict(each) for each in conversations]).encode()).hexdigest()[:16]


def kv_bytes(sizes: Sizes, conversations: list[Conversation], model: Path) -> int:
    """Return the bytes of bfloat16 KV for one in `Sizes.for_each_fitting` conversations at their end, sharing none."""
    opened = open_model(model)
    texts = (opened.chat_template.render(each.messages) for each in conversations)
    blocks = sum(ceil((len(opened.tokenizer.encode(text)) + sizes.max_tokens) / BLOCK_TOKENS) for text in texts)
    return blocks // sizes.for_each_fitting * block_bytes(model)


def block_bytes(model: Path) -> int:
    """Return the bytes of a block of KV in bfloat16."""
    return KVFormat.padded(open_model(model).config, "bfloat16").block_bytes


def _conversation(sizes: Sizes, number: int) -> Conversation:
    rng = random.Random(f"chat {number}")
    messages = [{"role": "system", "content": " ".join(words("system", sizes.system_words))}]
    due_s = [rng.uniform(0, sizes.begin_s)]
    for turn in range(sizes.turns):
        if turn:
            messages.append(_message("assistant", f"answer {number}, {turn}", rng.randint(*sizes.assistant_words)))
            due_s.append(due_s[-1] + rng.uniform(*sizes.think_s))
        messages.append(_message("user", f"chat {number}, {turn}", rng.randint(*sizes.user_words)))
    return Conversation(messages, tuple(due_s), sizes.max_tokens)


def _message(role: str, key: str, count: int) -> dict[str, str]:
    return {"role": role, "content": " ".join(words(key, count))}
