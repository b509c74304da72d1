"""The tree of prefixes, by scope: which owner's tokens a prompt agrees with.

What stands on a prefix is found by its first block. No two that stand on the same prefix begin with the same block:
the second one to come splits the first. A search therefore looks into one dict for each prefix on its way, and compares
the prompt with the tokens found. It changes nothing.
"""

from collections import defaultdict
from dataclasses import dataclass

from allocator import BLOCK_TOKENS
from service.core.messages.packing import TOKEN_BYTES, agreement
from service.core.state.owners import BLOCK_BYTES, Owner, Prefix, Scope, Session, first_block


@dataclass(frozen=True, slots=True)
class Agreement:
    """Where a prompt agrees with the tree: all of ``prefix`` and of what that stands on, and then a part of ``child``.

    ``tokens`` is how many tokens agree in all, at least one token less than the prompt has: that one is computed.
    """

    prefix: Prefix | None
    child: Owner | None
    tokens: int

    @property
    def cut(self) -> int | None:
        """The token before which ``child`` must be split to be shared; None if not even its first block agrees."""
        end = self.tokens // BLOCK_TOKENS * BLOCK_TOKENS
        start = 0 if self.prefix is None else self.prefix.end
        return end if self.child is not None and end > start else None


class PrefixTree:
    """All prefixes and the sessions that can be found.

    Always true: a findable child is the only one on its prefix with its first block, which is its key there.
    """

    def __init__(self) -> None:
        self._roots: dict[Scope, dict[bytes, Owner]] = defaultdict(dict)

    def find(self, scope: Scope, packed: bytes) -> Agreement:
        """Return how far a prompt agrees with what is there. O(prefixes on its path), beside the comparison."""
        limit = len(packed) // TOKEN_BYTES - 1
        prefix: Prefix | None = None
        at = 0
        children = self._roots.get(scope, {})
        while child := children.get(packed[at * TOKEN_BYTES : at * TOKEN_BYTES + BLOCK_BYTES]):
            if isinstance(child, Session):
                return Agreement(prefix, child, min(at + agreement(packed, at, child.packed, at), limit))
            end = at + len(child.tokens) // TOKEN_BYTES
            if end > limit or not packed.startswith(child.tokens, at * TOKEN_BYTES):
                return Agreement(prefix, child, min(at + agreement(packed, at, child.tokens, 0), limit))
            prefix, at, children = child, end, child.children
        return Agreement(prefix, None, min(at, limit))

    def enter(self, session: Session) -> None:
        """Let a session be found by the first block of its tail, unless another is found by the same."""
        if session.scope is None or (key := first_block(session.packed, session.start)) is None:
            return
        siblings = self._siblings(session)
        if siblings.setdefault(key, session) is session:
            session.key = key

    def leave(self, session: Session) -> None:
        """Let a session be found no more."""
        if session.key is not None:
            del self._siblings(session)[session.key]
            self._forget_root(session)
            session.key = None

    def split(self, child: Owner, cut: int, number: int) -> Prefix:
        """Insert a new prefix up to token ``cut`` before a child, which stands on it from now on. Return it."""
        scope = child.scope
        assert scope is not None
        start = child.start
        own, begin = (child.packed, start) if isinstance(child, Session) else (child.tokens, 0)
        tokens = own[begin * TOKEN_BYTES : (begin + cut - start) * TOKEN_BYTES]
        head = Prefix(number, scope, tokens, start, child.prefix, does_not_expire=child.does_not_expire)
        if isinstance(child, Session):
            head.users, head.live = 1, child.idle_since_s is None
            self.leave(child)
            child.prefix = head
            self.enter(child)
            if head.prefix is not None:
                head.prefix.num_prefixes += 1
        else:
            head.users, head.live, head.num_prefixes = child.users, child.live, 1
            child.tokens, child.start, child.prefix = child.tokens[len(tokens) :], cut, head
            head.children[child.tokens[:BLOCK_BYTES]] = child
        self._siblings(head)[tokens[:BLOCK_BYTES]] = head
        return head

    def hide(self, prefix: Prefix) -> None:
        """Let a prefix, and all that stands on it, be found no more."""
        if not prefix.is_hidden:
            prefix.is_hidden = True
            del self._siblings(prefix)[prefix.tokens[:BLOCK_BYTES]]
            self._forget_root(prefix)

    def drop(self, prefix: Prefix) -> None:
        """Forget a prefix on which nothing stands."""
        assert not prefix.users
        assert not prefix.num_prefixes
        self.hide(prefix)
        if prefix.prefix is not None:
            prefix.prefix.num_prefixes -= 1

    def __len__(self) -> int:
        """Return the number of owners that can be found."""
        waiting = [child for children in self._roots.values() for child in children.values()]
        found = 0
        while waiting:
            found += 1
            if isinstance(child := waiting.pop(), Prefix):
                waiting += child.children.values()
        return found

    def _siblings(self, owner: Owner) -> dict[bytes, Owner]:
        """Return what can be found where an owner stands."""
        assert owner.scope is not None
        return self._roots[owner.scope] if owner.prefix is None else owner.prefix.children

    def _forget_root(self, owner: Owner) -> None:
        assert owner.scope is not None
        if owner.prefix is None and not self._roots[owner.scope]:
            del self._roots[owner.scope]
