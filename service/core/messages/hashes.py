"""Hashes of a prompt's blocks, by which it finds the session that it continues."""

from collections.abc import Sequence
from itertools import accumulate

HASHED_TOKENS = 16  # a hash


def block_hashes(tokens: Sequence[int]) -> tuple[int, ...]:
    """Return a hash of every prefix of whole blocks: entry n covers the first n blocks. Equal in one process only."""
    ends = range(HASHED_TOKENS, len(tokens) + 1, HASHED_TOKENS)
    blocks = (tuple(tokens[end - HASHED_TOKENS : end]) for end in ends)
    return tuple(accumulate(blocks, lambda hashed, block: hash((hashed, block)), initial=0))
