"""Chat answers in OpenAI's form."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.api.openai.answer import AnswerFormat, CollectedChoice, json_logprob
from service.api.openai.responses import (
    ChatChoice,
    ChatChunk,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    ChosenLogprob,
    TokenLogprob,
    UsageCounts,
)
from service.core.messages.events import Finished, TokenOut
from service.engine import Output


@dataclass(slots=True)
class ChatFormat(AnswerFormat):
    """Writes the answer to a conversation, in ``choices`` choices."""

    choices: int

    def opening(self) -> Iterator[tuple[int, ChatChunk]]:
        """Yield the role of every choice."""
        for choice in range(self.choices):
            yield choice, self._chunk(choice, {"role": "assistant", "content": ""})

    def chunks(self, choice: int, output: Output) -> Iterator[ChatChunk]:
        """Yield text with its log-probabilities; the finish reason has a chunk of its own."""
        event = output.event
        logprobs = self._logprobs([event]) if isinstance(event, TokenOut) else None
        if output.text or logprobs:
            yield self._chunk(choice, {"content": output.text}, logprobs)
        if isinstance(event, Finished):
            yield self._chunk(choice, {}, finish_reason=event.reason.value)

    def usage_chunk(self, usage: UsageCounts) -> ChatChunk:
        """Return a chunk without a choice."""
        return {**self.head, "object": "chat.completion.chunk", "choices": [], "usage": usage}

    def whole(self, answers: Sequence[CollectedChoice], usage: UsageCounts) -> ChatCompletion:
        """Return the completion."""
        choices = [self._choice(index, answer) for index, answer in enumerate(answers)]
        return {**self.head, "object": "chat.completion", "choices": choices, "usage": usage}

    def _choice(self, index: int, answer: CollectedChoice) -> ChatChoice:
        return {
            "index": index,
            "message": {"role": "assistant", "content": answer.text, "refusal": None},
            "logprobs": self._logprobs(answer.tokens),
            "finish_reason": answer.finish_reason,
        }

    def _chunk(
        self, choice: int, delta: ChatDelta, logprobs: ChatLogprobs | None = None, finish_reason: str | None = None
    ) -> ChatChunk:
        head = self.head
        chunk: ChatChunk = {
            "id": head["id"],
            "object": "chat.completion.chunk",
            "created": head["created"],
            "model": head["model"],
            "choices": [{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}],
        }
        if "service_tier" in head:
            chunk["service_tier"] = head["service_tier"]
        return chunk

    def _logprobs(self, tokens: Sequence[TokenOut]) -> ChatLogprobs | None:
        content = [chosen for token in tokens if (chosen := self._chosen(token))]
        return {"content": content, "refusal": None} if content else None

    def _chosen(self, event: TokenOut) -> ChosenLogprob | None:
        if event.logprobs is None:
            return None
        top = [self._token(token, logprob) for token, logprob in event.logprobs.top]
        return {**self._token(event.token, event.logprobs.logprob), "top_logprobs": top}

    def _token(self, token: int, logprob: float) -> TokenLogprob:
        raw = self.tokenizer.token_bytes(token)
        return {"token": raw.decode(errors="replace"), "logprob": json_logprob(logprob), "bytes": list(raw)}
