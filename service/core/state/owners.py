"""What owns KV in core: sessions, and the prefixes on which several of them stand.

A session's tokens are those of the prefixes on its path, then those of its own tail, for which it has a sequence in
`KVMemory`. A prefix is a run of whole blocks on which two prompts have agreed, whether it is computed yet or not.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from allocator import BLOCK_TOKENS
from service.core.messages.packing import TOKEN_BYTES

Scope = tuple[str, ...]  # no KV is ever shared between two
BLOCK_BYTES = BLOCK_TOKENS * TOKEN_BYTES


@dataclass(slots=True, eq=False)
class Prefix:
    """A shared prefix: ``tokens`` are packed, and begin with token ``start`` of the sequences that stand on it."""

    number: int  # in `KVMemory`
    scope: Scope
    tokens: bytes
    start: int
    prefix: "Prefix | None"  # that it stands on
    children: dict[bytes, "Owner"] = field(default_factory=dict)  # what can be found on it, by its first block
    num_prefixes: int = 0  # that stand directly on it
    users: int = 0  # sessions on whose path it is
    live: int = 0  # those of them with a live request
    is_hidden: bool = False  # it is not found any more
    does_not_expire: bool = False
    idle_since_s: float | None = None  # None: a request is live on it

    @property
    def length(self) -> int:
        """Number of tokens."""
        return len(self.tokens) // TOKEN_BYTES

    @property
    def end(self) -> int:
        """The token behind it."""
        return self.start + self.length

    @property
    def num_blocks(self) -> int:
        """Number of blocks."""
        return len(self.tokens) // BLOCK_BYTES

    @property
    def path_up(self) -> "Iterator[Prefix]":
        """Yield it and the prefixes that it stands on, the root last."""
        prefix: Prefix | None = self
        while prefix is not None:
            yield prefix
            prefix = prefix.prefix


@dataclass(slots=True, eq=False)
class Session:
    """A conversation: its tokens so far, and where its last answer starts."""

    sequence: int
    scope: Scope | None  # None: never found by its tokens
    name: str | None = None
    prefix: Prefix | None = None  # that its tail stands on
    tokens: list[int] = field(default_factory=list)
    packed: bytes = b""  # the tokens by which it can be found: while it is busy, those of its prompt
    key: bytes | None = None  # the first block of its tail, if it is found by that
    tenant: str = ""  # of its last turn
    does_not_expire: bool = False  # as its last turn has it
    answer_start: int = 0
    idle_since_s: float | None = None  # None: busy

    @property
    def number(self) -> int:
        """The number of its tail in `KVMemory`."""
        return self.sequence

    @property
    def start(self) -> int:
        """The token with which its tail begins."""
        return 0 if self.prefix is None else self.prefix.end

    @property
    def can_be_continued(self) -> bool:
        """Whether a later turn could find it."""
        return self.name is not None or self.key is not None

    @property
    def path_up(self) -> Iterator[Prefix]:
        """Yield the prefixes that it stands on, the nearest first."""
        return iter(()) if self.prefix is None else self.prefix.path_up


Owner = Session | Prefix


def first_block(packed: bytes, start: int) -> bytes | None:
    """Return the block of packed tokens that begins with token ``start``; None if they end before its end."""
    block = packed[start * TOKEN_BYTES : start * TOKEN_BYTES + BLOCK_BYTES]
    return block if len(block) == BLOCK_BYTES else None
