"""Prompts as bytes, four a token, so that two are compared by calls of C, and a block of one is the key of a dict."""

from array import array
from collections.abc import Iterable

TOKEN_BYTES = array("i").itemsize


def pack(tokens: Iterable[int]) -> bytes:
    """Return token ids as bytes."""
    return array("i", tokens).tobytes()


def agreement(a: bytes, a_start: int, b: bytes, b_start: int) -> int:
    """Return how many tokens of two packed sequences agree, from token ``a_start`` and token ``b_start`` on."""
    agreed, limit = 0, min(len(a) // TOKEN_BYTES - a_start, len(b) // TOKEN_BYTES - b_start)
    while agreed < limit:
        middle = (agreed + limit + 1) // 2
        begin, end = agreed * TOKEN_BYTES, middle * TOKEN_BYTES
        a_at, b_at = a_start * TOKEN_BYTES, b_start * TOKEN_BYTES
        if a[a_at + begin : a_at + end] == b[b_at + begin : b_at + end]:
            agreed = middle
        else:
            limit = middle - 1
    return agreed
