"""Completions of bare prompts, in the form of OpenAI's older route."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.api.openai.answer import AnswerFormat, CollectedChoice, json_logprob
from service.api.openai.responses import TextChoice, TextChunk, TextCompletion, TextLogprobs, UsageCounts
from service.core.messages.events import Finished, TokenOut
from service.core.messages.sampling import TokenLogprobs
from service.engine import Output


@dataclass(slots=True)
class CompletionFormat(AnswerFormat):
    """Writes the continuations of one or several prompts.

    ``echoes``: the start of each choice's text, often empty. ``offsets``: characters of the tokens so far, by choice.
    """

    echoes: Sequence[str]
    offsets: dict[int, int] = field(default_factory=dict)

    def opening(self) -> Iterator[tuple[int, TextChunk]]:
        """Yield the prompts, for requests that want them echoed."""
        for choice, echo in enumerate(self.echoes):
            if echo:
                yield choice, self._chunk(_choice(choice, echo))

    def chunks(self, choice: int, output: Output) -> Iterator[TextChunk]:
        """Yield text with its log-probabilities; the last chunk has the finish reason."""
        event = output.event
        logprobs = self._logprobs(choice, [event]) if isinstance(event, TokenOut) else None
        reason = event.reason.value if isinstance(event, Finished) else None
        if output.text or logprobs or reason:
            yield self._chunk(_choice(choice, output.text, logprobs, reason))

    def usage_chunk(self, usage: UsageCounts) -> TextChunk:
        """Return a chunk without a choice."""
        return {**self.head, "object": "text_completion", "choices": [], "usage": usage}

    def whole(self, answers: Sequence[CollectedChoice], usage: UsageCounts) -> TextCompletion:
        """Return the completion."""
        choices = [self._whole_choice(index, answer) for index, answer in enumerate(answers)]
        return {**self.head, "object": "text_completion", "choices": choices, "usage": usage}

    def _whole_choice(self, index: int, answer: CollectedChoice) -> TextChoice:
        logprobs = self._logprobs(index, answer.tokens)
        return _choice(index, self.echoes[index] + answer.text, logprobs, answer.finish_reason)

    def _chunk(self, choice: TextChoice) -> TextChunk:
        head = self.head
        chunk: TextChunk = {
            "id": head["id"],
            "object": "text_completion",
            "created": head["created"],
            "model": head["model"],
            "choices": [choice],
        }
        if "service_tier" in head:
            chunk["service_tier"] = head["service_tier"]
        return chunk

    def _logprobs(self, choice: int, tokens: Sequence[TokenOut]) -> TextLogprobs | None:
        """Return the four lists of `tokens`, which follow those of the last call."""
        lists: TextLogprobs = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
        for event in tokens:
            if event.logprobs is not None:
                self._append(lists, choice, event.token, event.logprobs)
        return lists if lists["tokens"] else None

    def _append(self, lists: TextLogprobs, choice: int, token: int, logprobs: TokenLogprobs) -> None:
        text, logprob = self.tokenizer.token_text(token), json_logprob(logprobs.logprob)
        offset = self.offsets.get(choice, 0)
        self.offsets[choice] = offset + len(text)
        lists["text_offset"].append(offset)
        lists["token_logprobs"].append(logprob)
        lists["tokens"].append(text)
        likeliest: dict[str, float] = {}
        for other, value in (*logprobs.top, (token, logprob)):  # the drawn token is included, as with OpenAI
            likeliest.setdefault(self.tokenizer.token_text(other), json_logprob(value))
        lists["top_logprobs"].append(likeliest)


def _choice(
    index: int, text: str, logprobs: TextLogprobs | None = None, finish_reason: str | None = None
) -> TextChoice:
    return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason}
