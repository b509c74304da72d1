"""The parts of a `Snapshot`: numbers and ids, no text and no tokens. Lengths are in tokens, times in seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestView:
    """A live request, in its ``state`` for ``since_s`` seconds. ``because`` says why it does not run.

    ``because`` is a `Preempted` reason for a preempted request; for a waiting one it is ``step`` (it came after the
    last plan), ``slot`` (the batch is full) or ``room`` (too few blocks for it). ``blocks`` and ``host_blocks`` are its
    own; its first ``shared`` tokens are on the prefix number ``prefix`` and those that this stands on.
    """

    request_id: str
    tenant: str
    state: str
    because: str | None
    since_s: float
    age_s: float
    slot: int | None
    priority: int
    prompt: int
    max_tokens: int
    answered: int
    computed: int
    resident: int
    mirrored: int
    blocks: int
    host_blocks: int
    reused: int
    recomputed: int
    preemptions: int
    prefix: int | None = None
    shared: int = 0


@dataclass(frozen=True, slots=True)
class SessionView:
    """An idle session with ``tokens`` of history, ``computed`` of them with KV. ``prefix`` as in `RequestView`."""

    tenant: str
    idle_s: float
    tokens: int
    computed: int
    blocks: int
    host_blocks: int
    prefix: int | None = None
    shared: int = 0


@dataclass(frozen=True, slots=True)
class PrefixView:
    """A prefix of ``tokens`` tokens, which stands on the prefix number ``prefix``.

    ``sessions`` stand on it, directly or not, ``live`` of them with a request. None do for ``idle_s`` seconds.
    """

    number: int
    prefix: int | None
    tokens: int
    computed: int
    resident: int
    mirrored: int
    blocks: int
    host_blocks: int
    sessions: int
    live: int
    idle_s: float | None


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool and how it is divided, in blocks, except ``owners`` and ``groups``."""

    name: str
    blocks: int
    used: int
    reserved: int
    free: int
    largest_free: int
    owners: int
    groups: int
