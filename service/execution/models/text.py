"""The text of answers, made of tokens between run and commit, and released when no stop string can begin in it.

The engine thread owns it. For each open request it keeps the text that may still begin a stop string; released text is
never taken back. Stop strings are matched character by character, so it makes no difference where tokens end: the match
that ends first wins, and the longer of two that end together.
"""

from collections import deque
from dataclasses import dataclass

from service.execution.models.tokenizer import IncrementalDecoder, Tokenizer


@dataclass(frozen=True, slots=True)
class Piece:
    """The text that a token releases; ``keep_tokens``, at a complete stop string, counts the tokens before it."""

    text: str
    keep_tokens: int | None = None


class TextStage:
    """Detokenises and matches stop strings for every open request."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._answers: dict[str, _Answer] = {}

    def open(self, request_id: str, stop: tuple[str, ...] = ()) -> None:
        """Start an answer that ends at any of the non-empty strings ``stop``."""
        self._answers[request_id] = _Answer(self._tokenizer.decoder(), [_StopMatcher(string) for string in stop])

    def push(self, request_id: str, token_id: int, is_stop_token: bool) -> Piece:
        """Take the answer's next token and return the text it releases: none for a stop token."""
        answer = self._answers[request_id]
        return Piece("") if is_stop_token else answer.push(token_id)

    def close(self, request_id: str) -> str:
        """End an answer and return the text still held: none after a stop string, or if the answer is not open."""
        answer = self._answers.pop(request_id, None)
        return "" if answer is None else answer.rest()


class _Answer:
    """One request's text: ``released`` characters were returned, and ``held`` follow them.

    ``settled`` tokens end in released text; ``ends`` are the characters at which the others end.
    """

    __slots__ = ("beginnings", "decoder", "ends", "held", "matchers", "released", "settled", "stopped")

    def __init__(self, decoder: IncrementalDecoder, matchers: "list[_StopMatcher]") -> None:
        self.decoder = decoder
        self.matchers = matchers
        self.beginnings = {matcher.string[0] for matcher in matchers}  # while nothing is held
        self.released = 0
        self.held = ""
        self.settled = 0
        self.ends: deque[int] = deque()
        self.stopped = False

    def push(self, token_id: int) -> Piece:
        text = self.decoder.push(token_id)
        if not self.matchers:
            return Piece(text)
        if self.held or not self.beginnings.isdisjoint(text):
            for position, character in enumerate(text):
                length = max(matcher.push(character) for matcher in self.matchers)
                if length:
                    return self._stop(len(self.held) + position + 1 - length, text)
        self.held += text
        # A token that ends inside a character counts as ending after it.
        self.ends.append(self.released + len(self.held) + (1 if self.decoder.pending else 0))
        return Piece(self._release(len(self.held) - max(matcher.matched for matcher in self.matchers)))

    def _stop(self, start: int, text: str) -> Piece:
        self.held += text
        before = self._release(start)
        self.stopped = True
        return Piece(before, self.settled)

    def _release(self, length: int) -> str:
        text, self.held = self.held[:length], self.held[length:]
        self.released += length
        while self.ends and self.ends[0] <= self.released:
            self.ends.popleft()
            self.settled += 1
        return text

    def rest(self) -> str:
        return "" if self.stopped else self.held + self.decoder.flush()


class _StopMatcher:
    """Knuth-Morris-Pratt: ``matched`` is the length of the longest prefix of the string that ends the text so far."""

    __slots__ = ("_fallback", "matched", "string")

    def __init__(self, string: str) -> None:
        self.string = string
        self._fallback = [0] * len(string)  # for each prefix, its longest proper prefix that is also its suffix
        self.matched = 0
        for index in range(1, len(string)):
            self._advance(string[index])
            self._fallback[index] = self.matched
        self.matched = 0

    def push(self, character: str) -> int:
        """Take a character, and return the string's length if that completes it, else 0."""
        self._advance(character)
        return len(self.string) if self.matched == len(self.string) else 0

    def _advance(self, character: str) -> None:
        while self.matched and self.string[self.matched] != character:
            self.matched = self._fallback[self.matched - 1]
        if self.string[self.matched] == character:
            self.matched += 1
