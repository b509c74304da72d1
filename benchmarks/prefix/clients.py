"""Ordinary clients of OpenAI's chat route: each request is a new connection, without a key or a user."""

import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from openai import OpenAI

from benchmarks.peers.client import SILENCE_S, Messages

ROUTE = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer and its usage. ``cached_tokens``: prompt tokens whose KV was there; 0 if the server does not say."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the server at ``url``."""

    url: str
    model: str
    messages: Messages
    max_tokens: int

    @property
    def body(self) -> dict[str, Any]:
        """The body of the request, for a greedy answer."""
        return {"model": self.model, "messages": self.messages, "max_tokens": self.max_tokens, "temperature": 0}


def by_openai(question: Question) -> Reply:
    """Stream the answer, as the README does, with a client of its own."""
    text, usage = "", {}
    with OpenAI(base_url=f"{question.url}/v1", api_key="none", timeout=SILENCE_S, max_retries=0) as client:
        stream = client.chat.completions.create(**question.body, stream=True, stream_options={"include_usage": True})
        for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            usage = chunk.usage.model_dump() if chunk.usage else usage
    return _reply(text, usage)


def by_requests(question: Question) -> Reply:
    """Post it with `requests`, without a session."""
    response = requests.post(question.url + ROUTE, json=question.body, timeout=SILENCE_S)
    response.raise_for_status()
    return _whole(response.json())


def by_curl(question: Question) -> Reply:
    """Post it with the program `curl`. Raises CalledProcessError."""
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--json", "@-", question.url + ROUTE]
    asked = json.dumps(question.body)
    return _whole(json.loads(subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout))


def _whole(answer: Mapping[str, Any]) -> Reply:
    return _reply(answer["choices"][0]["message"]["content"], answer["usage"])


def _reply(text: str, usage: Mapping[str, Any]) -> Reply:
    details = usage.get("prompt_tokens_details") or {}
    return Reply(text, usage["prompt_tokens"], usage["completion_tokens"], details.get("cached_tokens") or 0)


CLIENTS: dict[str, Callable[[Question], Reply]] = {"openai": by_openai, "requests": by_requests, "curl": by_curl}
