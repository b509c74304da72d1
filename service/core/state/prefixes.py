"""An index that finds the idle session whose history a prompt continues, in O(prompt), however many there are.

The key of a value is (scope, length, hash) of the tokens that must match. A lookup computes the hashes of all prefixes
of the prompt in one pass, probes each length that occurs in the scope, longest first, and compares the tokens of a hit.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

ScopeT = TypeVar("ScopeT", bound=Hashable)
ValueT = TypeVar("ValueT", bound=Hashable)

_MULTIPLIER = 0x5851F42D4C957F2D  # Knuth's MMIX
_MASK = (1 << 61) - 1


def _mix(running: int, token: int) -> int:
    return (running * _MULTIPLIER + token + 1) & _MASK


def prefix_hashes(tokens: Sequence[int]) -> list[int]:
    """Return the rolling hash of every prefix: entry n covers the first n tokens."""
    return list(accumulate(tokens, _mix, initial=0))


def common_prefix(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """Return the length of the common prefix of two sequences that are known to agree up to ``start``."""
    end = min(len(a), len(b))
    return next((i for i in range(start, end) if a[i] != b[i]), end)


class PrefixIndex(Generic[ScopeT, ValueT]):
    """Values by scope and the hash of the first ``required`` of their tokens."""

    def __init__(self) -> None:
        self._entries: dict[tuple[ScopeT, int, int], dict[ValueT, Sequence[int]]] = defaultdict(dict)
        self._lengths: dict[ScopeT, Counter[int]] = defaultdict(Counter)

    def __len__(self) -> int:
        return sum(len(values) for values in self._entries.values())

    def add(self, scope: ScopeT, tokens: Sequence[int], required: int, value: ValueT) -> None:
        """Add ``value`` under its first ``required`` tokens. ``tokens`` must not change until it is removed."""
        self._entries[self._key(scope, tokens, required)][value] = tokens
        self._lengths[scope][required] += 1

    def remove(self, scope: ScopeT, tokens: Sequence[int], required: int, value: ValueT) -> None:
        """Remove ``value``; the arguments are those of `add`."""
        key = self._key(scope, tokens, required)
        del self._entries[key][value]
        if not self._entries[key]:
            del self._entries[key]
        lengths = self._lengths[scope]
        lengths[required] -= 1
        if not lengths[required]:
            del lengths[required]
        if not lengths:
            del self._lengths[scope]

    def find(self, scope: ScopeT, prompt: Sequence[int]) -> tuple[ValueT, int] | None:
        """Return the value that shares most of the prompt, at least its required tokens, and how many it shares."""
        lengths = self._lengths.get(scope)
        if not lengths:
            return None
        hashes = prefix_hashes(prompt)
        for required in sorted((n for n in lengths if n <= len(prompt)), reverse=True):
            candidates = self._entries.get((scope, required, hashes[required]), {})
            shared = {value: common_prefix(tokens, prompt) for value, tokens in candidates.items()}
            best = max(shared, key=lambda value: shared[value], default=None)
            if best is not None and shared[best] >= required:
                return best, shared[best]
        return None

    @staticmethod
    def _key(scope: ScopeT, tokens: Sequence[int], required: int) -> tuple[ScopeT, int, int]:
        return scope, required, prefix_hashes(tokens[:required])[-1]
