"""`make answers`: what the bundled model says to everyday prompts if a client asks for nothing in particular.

Each answer must end by itself, and none may loop. The answers are stored, to be read.
"""

import asyncio
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from openai import AsyncOpenAI

from benchmarks.record import store
from benchmarks.server import running_server

PROMPTS = (
    "hi",
    "Who are you?",
    "What is the capital of France?",
    "Tell me a joke.",
    "Write a short poem about the sea.",
    "Explain photosynthesis to a child.",
    "How do I boil an egg?",
    "Give me three ideas for a birthday present for my mother.",
    "What is the difference between a list and a tuple in Python?",
    "Write a Python function that reverses a string.",
    "Summarise the story of Romeo and Juliet.",
    "Translate 'good morning' into Spanish.",
    "What should I pack for a weekend in the mountains?",
    "Why is the sky blue?",
    "Write an email that asks my landlord to repair the heating.",
    "List the planets of the solar system.",
    "I feel sad today.",
    "What is 12 times 12?",
    "Tell me a long story about a dragon.",
    "Thanks, bye!",
)
LOOP = 4  # times that a sentence may not be said in one answer


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt's answer. ``loops``: a sentence of it that is said again and again."""

    prompt: str
    text: str
    finish_reason: str
    tokens: int
    loops: str | None


def loop_in(text: str) -> str | None:
    """Return a sentence or line of four words or more that a text says `LOOP` times, None if there is none."""
    parts = (part.strip().lower() for part in re.split(r"[.!?\n]+", text))
    said = Counter(part for part in parts if len(part.split()) >= 4)
    return next((part for part, times in said.items() if times >= LOOP), None)


async def ask(client: AsyncOpenAI, prompt: str) -> Answer:
    """Ask as the shortest example of any client does."""
    answer = await client.chat.completions.create(model="default", messages=[{"role": "user", "content": prompt}])
    choice, usage = answer.choices[0], answer.usage
    text = choice.message.content or ""
    return Answer(prompt, text, choice.finish_reason, usage.completion_tokens if usage else 0, loop_in(text))


async def ask_all() -> list[Answer]:
    """Return the answers of a server of its own to all prompts."""
    async with (
        running_server("--served-model-name", "default") as server,
        AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client,
    ):
        return [await ask(client, prompt) for prompt in PROMPTS]


def main() -> int:
    """Ask, store and show; return 1 if an answer does not end by itself, or loops."""
    answers = asyncio.run(ask_all())
    bad = [answer for answer in answers if answer.finish_reason != "stop" or answer.loops]
    figures: dict[str, Any] = {"asked": len(answers), "bad": len(bad), "answers": [asdict(each) for each in answers]}
    for answer in answers:
        print(f"> {answer.prompt}\n{answer.text}\n[{answer.finish_reason}, {answer.tokens} tokens]\n")
    print(f"{len(bad)} of {len(answers)} do not end by themselves, or loop: {[answer.prompt for answer in bad]}")
    print(f"stored in {store('answers', figures)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
