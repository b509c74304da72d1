"""Which idle conversation does a stateless history continue? Answered in O(prompt), however many there are.

Every value stands under (scope, length, hash) of the tokens that must match. A lookup hashes the prompt once, all its
prefixes on the way, probes each length that occurs in the scope, longest first, and compares tokens before it believes.
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
    """Rolling hash of every prefix: entry n covers the first n tokens."""
    return list(accumulate(tokens, _mix, initial=0))


def common_prefix(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """Length of the common prefix of two sequences that are known to agree up to ``start``."""
    end = min(len(a), len(b))
    return next((i for i in range(start, end) if a[i] != b[i]), end)


class PrefixIndex(Generic[ScopeT, ValueT]):
    """Token sequences by the hash of their first ``required`` tokens, kept apart by scope."""

    def __init__(self) -> None:
        self._entries: dict[tuple[ScopeT, int, int], dict[ValueT, Sequence[int]]] = defaultdict(dict)
        self._lengths: dict[ScopeT, Counter[int]] = defaultdict(Counter)

    def __len__(self) -> int:
        return sum(len(values) for values in self._entries.values())

    def add(self, scope: ScopeT, tokens: Sequence[int], required: int, value: ValueT) -> None:
        """File ``value`` under the first ``required`` tokens. ``tokens`` must not change until it is removed."""
        self._entries[self._key(scope, tokens, required)][value] = tokens
        self._lengths[scope][required] += 1

    def remove(self, scope: ScopeT, tokens: Sequence[int], required: int, value: ValueT) -> None:
        """Take ``value`` out; the arguments are those of `add`."""
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
        """The value whose required tokens the prompt starts with and that shares most of it, and how many tokens."""
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
