"""Chat answers as OpenAI writes them: chunks of a stream, or the whole completion."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.api.context import Tokenizer
from service.core.events import Finished, TokenOut, Usage
from service.core.sampling import TokenLogprobs
from service.engine import Output

# JSON has no infinity; OpenAI's own stand-in for "impossible".
IMPOSSIBLE_LOGPROB = -9999.0


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The fields that all parts of one answer share."""

    completion_id: str
    created: int  # Unix seconds
    model: str
    tokenizer: Tokenizer

    def chunk(
        self,
        choice: int,
        delta: dict[str, str],
        logprobs: list[dict[str, Any]] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        """A piece of one choice."""
        content = None if logprobs is None else {"content": logprobs, "refusal": None}
        choices = [{"index": choice, "delta": delta, "logprobs": content, "finish_reason": finish_reason}]
        return {**self._head("chat.completion.chunk"), "choices": choices}

    def usage_chunk(self, usages: Iterable[Usage]) -> dict[str, Any]:
        """The last piece, for those who asked for it."""
        return {**self._head("chat.completion.chunk"), "choices": [], "usage": usage_of(usages)}

    def completion(self, answers: "Sequence[Answer]") -> dict[str, Any]:
        """Everything at once."""
        choices = [answer.choice(index) for index, answer in enumerate(answers)]
        usage = usage_of(answer.finished.usage for answer in answers if answer.finished is not None)
        return {**self._head("chat.completion"), "choices": choices, "usage": usage}

    def logprob_of(self, event: TokenOut) -> list[dict[str, Any]] | None:
        """The entry of one token, if the request asked for it."""
        if event.logprobs is None:
            return None
        return [{**self._token(event.token, event.logprobs.logprob), "top_logprobs": self._top(event.logprobs)}]

    def _top(self, logprobs: TokenLogprobs) -> list[dict[str, Any]]:
        return [self._token(token, logprob) for token, logprob in logprobs.top]

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        raw = self.tokenizer.token_bytes(token)
        finite = logprob if math.isfinite(logprob) else IMPOSSIBLE_LOGPROB
        return {"token": raw.decode(errors="replace"), "logprob": finite, "bytes": list(raw)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self.completion_id, "object": kind, "created": self.created, "model": self.model}


@dataclass(slots=True)
class Answer:
    """One choice of a plain answer while it comes in."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finished: Finished | None = None

    def add(self, output: Output, form: ChatFormat) -> None:
        """Take one more output in."""
        self.texts.append(output.text)
        match output.event:
            case TokenOut():
                if entry := form.logprob_of(output.event):
                    self.logprobs.extend(entry)
            case Finished():
                self.finished = output.event

    def choice(self, index: int) -> dict[str, Any]:
        """As it stands in the completion."""
        assert self.finished is not None
        content = {"content": self.logprobs, "refusal": None} if self.logprobs else None
        message = {"role": "assistant", "content": "".join(self.texts), "refusal": None}
        return {"index": index, "message": message, "logprobs": content, "finish_reason": self.finished.reason.value}


def usage_of(usages: Iterable[Usage]) -> dict[str, Any]:
    """One request's token counts: its choices share the prompt."""
    counted = list(usages)
    prompt = max((usage.prompt for usage in counted), default=0)
    completion = sum(usage.completion for usage in counted)
    cached = max((usage.reused for usage in counted), default=0)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
