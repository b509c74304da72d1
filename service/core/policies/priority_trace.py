"""Priorities drawn from a seed, for the policies that replay the paper's traces.

A draw depends on the seed, the conversation and the update's number alone, so that every preset sees the same trace,
whatever else happens in its run.
"""

from hashlib import blake2b

from service.core.state.requests import Request


def conversation_of(request: Request) -> str:
    """Return a name that is the same for all turns of a conversation, and in every run if clients name their users."""
    return request.spec.user or request.spec.session or str(request.session.sequence)


def draw(seed: int, conversation: str, update: int, purpose: str = "") -> float:
    """Return a number in [0, 1). Python's `hash` would not do: it differs from process to process."""
    digest = blake2b(f"{seed}\0{update}\0{purpose}\0{conversation}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
