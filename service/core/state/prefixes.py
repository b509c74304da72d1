"""An index that finds the idle session whose history a prompt continues, however many there are.

The key of a value is (scope, length, hash of the whole blocks) of the tokens that must match. A lookup probes each
length that occurs in the scope, longest first, and compares the tokens of a hit. The hashes come with the prompt:
whoever makes it computes them, not the engine's thread.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from service.core.messages.hashes import HASHED_TOKENS

ScopeT = TypeVar("ScopeT", bound=Hashable)
ValueT = TypeVar("ValueT", bound=Hashable)

_COMPARED = 256  # tokens at once


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Return the length of the common prefix of two sequences."""
    end = min(len(a), len(b))
    for start in range(0, end, _COMPARED):
        stop = min(start + _COMPARED, end)
        if tuple(a[start:stop]) != tuple(b[start:stop]):
            return next(i for i in range(start, stop) if a[i] != b[i])
    return end


class PrefixIndex(Generic[ScopeT, ValueT]):
    """Values by scope and the hash of the first ``required`` of their tokens."""

    def __init__(self) -> None:
        self._entries: dict[tuple[ScopeT, int, int], dict[ValueT, Sequence[int]]] = defaultdict(dict)
        self._lengths: dict[ScopeT, Counter[int]] = defaultdict(Counter)

    def __len__(self) -> int:
        return sum(len(values) for values in self._entries.values())

    def add(self, scope: ScopeT, tokens: Sequence[int], required: int, hashed: int, value: ValueT) -> None:
        """Add ``value`` under its first ``required`` tokens, of which ``hashed`` is the last of `block_hashes`.

        ``tokens`` must not change until it is removed.
        """
        self._entries[scope, required, hashed][value] = tokens
        self._lengths[scope][required] += 1

    def remove(self, scope: ScopeT, required: int, hashed: int, value: ValueT) -> None:
        """Remove ``value``; the arguments are those of `add`."""
        key = (scope, required, hashed)
        del self._entries[key][value]
        if not self._entries[key]:
            del self._entries[key]
        lengths = self._lengths[scope]
        lengths[required] -= 1
        if not lengths[required]:
            del lengths[required]
        if not lengths:
            del self._lengths[scope]

    def find(self, scope: ScopeT, prompt: Sequence[int], hashes: Sequence[int]) -> tuple[ValueT, int] | None:
        """Return the value that shares most of the prompt, at least its required tokens, and how many it shares.

        ``hashes`` are the prompt's `block_hashes`.
        """
        lengths = self._lengths.get(scope)
        if not lengths:
            return None
        for required in sorted((n for n in lengths if n <= len(prompt)), reverse=True):
            candidates = self._entries.get((scope, required, hashes[required // HASHED_TOKENS]), {})
            shared = {value: common_prefix(tokens, prompt) for value, tokens in candidates.items()}
            best = max(shared, key=lambda value: shared[value], default=None)
            if best is not None and shared[best] >= required:
                return best, shared[best]
        return None
