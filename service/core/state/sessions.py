"""Sessions: conversations, how a turn finds the one that it continues, and the prefixes that they share.

A session is *busy* while a request is live in it and *idle* between turns. A turn continues an idle session that has
its name, or else one of its scope whose tokens its prompt agrees with, at least up to the session's last answer, since
clients trim and edit answers. Otherwise it opens a session, which stands on the prefix that its prompt agrees with.

A session without KV of its own is useless, since every turn brings the whole history, and is dropped. A prefix stays
while a session stands on it. Then nobody *holds* it, and it goes when its blocks are needed, before all idle sessions.
"""

from collections.abc import Iterator

from service.core.messages.packing import TOKEN_BYTES, agreement, pack
from service.core.state.idle import IdleOrder
from service.core.state.owners import Owner, Prefix, Scope, Session
from service.core.state.prefixes import Agreement, PrefixTree


class SessionTable:
    """All sessions and prefixes.

    Always true: an idle session is in the order of those idle, a busy one is not. A prefix is in no order while a
    request is live on it, in that of those idle while a session stands on it, else in that of those unheld. A session
    with a name is found under it.
    """

    def __init__(self, ttl_s: float, max_idle: int) -> None:
        self.ttl_s = ttl_s
        self.max_idle = max_idle
        self.owners: dict[int, Owner] = {}  # by number
        self.num_idle = 0  # sessions between turns, of those that expire
        self.num_prefixes = 0
        self.live_prefixes: dict[Prefix, None] = {}  # on which a request is live
        self.prefix_blocks = 0  # of all prefixes
        self.shared_blocks = 0  # of those on which several sessions stand
        self._tree = PrefixTree()
        self._idle = IdleOrder()
        self._unheld = IdleOrder()
        self._named: dict[str, Session] = {}
        self._next_number = 0

    def __iter__(self) -> Iterator[Session]:
        """Iterate over all sessions, busy and idle."""
        return (owner for owner in self.owners.values() if isinstance(owner, Session))

    @property
    def prefixes(self) -> Iterator[Prefix]:
        """All prefixes."""
        return (owner for owner in self.owners.values() if isinstance(owner, Prefix))

    def open(self, scope: Scope | None, name: str | None = None, prefix: Prefix | None = None) -> Session:
        """Open a busy session on a prefix. No other session has its name."""
        session = Session(self._take_number(), scope, name, prefix)
        self.owners[session.number] = session
        self._begin_use(prefix, users=1)
        if name is not None:
            self._named[name] = session
        return session

    def begin_turn(self, session: Session, prompt: tuple[int, ...], packed: bytes) -> None:
        """Give a busy session the tokens of its next turn, by which it is found from now on."""
        self._tree.leave(session)
        session.tokens, session.packed, session.does_not_expire = list(prompt), packed, False
        self._tree.enter(session)

    def keep(self, session: Session) -> None:
        """Let a busy session, and all that it stands on, never expire."""
        session.does_not_expire = True
        for prefix in session.path_up:
            prefix.does_not_expire = True

    def enter(self, session: Session) -> None:
        """Let a session be found by its tokens."""
        self._tree.enter(session)

    def leave(self, session: Session) -> None:
        """Let a session be found no more."""
        self._tree.leave(session)

    def named(self, name: str) -> Session | None:
        """Return the session with that name, busy or idle."""
        return self._named.get(name)

    def continued(self, name: str, scope: Scope | None, packed: bytes) -> tuple[Session, int] | None:
        """Return the idle session with that name, and how many tokens the prompt shares, if the prompt continues it.

        A session that it does not continue loses its name: it is another branch of the conversation from now on.
        """
        session = self._named.get(name)
        if session is None:
            return None
        shared = min(agreement(packed, 0, session.packed, 0), len(packed) // TOKEN_BYTES - 1)
        if session.scope == scope and (scope is None or self._continues(session, shared)):
            return session, shared
        del self._named[name]
        session.name = None
        return None

    def find(self, scope: Scope, packed: bytes) -> Agreement:
        """Return how far a prompt agrees with the prefixes and sessions of its scope."""
        return self._tree.find(scope, packed)

    def is_continued_by(self, found: Agreement) -> bool:
        """Return whether what was found is an idle session that the prompt continues."""
        child = found.child
        if not isinstance(child, Session) or child.idle_since_s is None or child.name is not None:
            return False
        return self._continues(child, found.tokens)

    def resume(self, session: Session) -> None:
        """Make an idle session busy."""
        self._leave_idle(session)
        self._begin_use(session.prefix, users=0)

    def move(self, session: Session, prefix: Prefix) -> None:
        """Let a busy session, which has no KV of its own, stand on another prefix."""
        self._tree.leave(session)
        before, session.prefix = session.prefix, prefix
        if session.does_not_expire:
            self.keep(session)
        self._begin_use(prefix, users=1)
        self._end_use(before, None, users=1)
        self._tree.enter(session)

    def split(self, child: Owner, cut: int) -> Prefix:
        """Insert a prefix up to token ``cut`` before an owner that was found. A session must come to stand on it."""
        prefix = self._tree.split(child, cut, self._take_number())
        self.owners[prefix.number] = prefix
        self.num_prefixes += 1
        if isinstance(child, Session):
            self.prefix_blocks += prefix.num_blocks
        if prefix.live:
            self.live_prefixes[prefix] = None
        else:
            self._order_of(prefix).add(prefix)
            prefix.idle_since_s = child.idle_since_s
        return prefix

    def make_idle(self, session: Session, now: float) -> None:
        """End a turn: the session becomes the youngest idle one."""
        session.idle_since_s = now
        self._idle.add(session)
        self.num_idle += not session.does_not_expire
        self._end_use(session.prefix, now, users=0)
        self._tree.leave(session)
        session.packed = pack(session.tokens)
        self._tree.enter(session)

    def close(self, session: Session, now: float | None = None) -> None:
        """Forget a session, idle, or busy until ``now``. The caller drops its KV."""
        self._tree.leave(session)
        if session.idle_since_s is None:
            self._end_use(session.prefix, now, users=1)
        else:
            self._leave_idle(session)
            self._lose_user(session.prefix)
        if session.name is not None:
            del self._named[session.name]
        del self.owners[session.number]

    def drop(self, prefix: Prefix) -> None:
        """Forget a prefix on which nothing stands. The caller drops its KV."""
        self._unheld.remove(prefix)
        self._tree.drop(prefix)
        self.num_prefixes -= 1
        self.prefix_blocks -= prefix.num_blocks
        del self.owners[prefix.number]

    def hide(self, session: Session) -> None:
        """Let the prefixes of a session be found no more."""
        for prefix in session.path_up:
            self._tree.hide(prefix)

    @property
    def idle(self) -> list[Owner]:
        """The prefixes that nobody holds, then idle sessions and the prefixes of idle ones, longest silent first."""
        return [*self._unheld.all, *self._idle.all]

    @property
    def idle_on_device(self) -> list[Owner]:
        """Those of `idle` that have device blocks, and perhaps some that have lost them."""
        return [*self._unheld.on_device, *self._idle.on_device]

    def left_device(self, owner: Owner) -> None:
        """Remove an owner without device blocks from `idle_on_device`."""
        self._idle.left_device(owner)
        self._unheld.left_device(owner)

    def overdue(self, now: float) -> tuple[Owner, str] | None:
        """Return what has been idle longest and why to drop it, ``expired`` or ``limit`` (too many); None: keep it."""
        for order in (self._unheld, self._idle):
            oldest = order.oldest
            if oldest is not None and oldest.idle_since_s is not None and now - oldest.idle_since_s >= self.ttl_s:
                return oldest, "expired"
        if self.num_idle > self.max_idle:
            return next(session for session in self._idle.all if self._is_limited(session)), "limit"
        return None

    def next_expiry_s(self) -> float | None:
        """Return when what has been idle longest expires."""
        oldest = [order.oldest for order in (self._unheld, self._idle)]
        since = [owner.idle_since_s for owner in oldest if owner is not None and owner.idle_since_s is not None]
        return min(since) + self.ttl_s if since else None

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        self._idle.check()
        self._unheld.check()
        assert all(owner.number == number for number, owner in self.owners.items())
        idle = [session for session in self if session.idle_since_s is not None]
        assert self.num_idle == sum(self._is_limited(session) for session in idle)
        assert all((session in self._idle) == (session.idle_since_s is not None) for session in self)
        assert self._named == {session.name: session for session in self if session.name is not None}
        prefixes = list(self.prefixes)
        assert self.num_prefixes == len(prefixes)
        assert self.prefix_blocks == sum(prefix.num_blocks for prefix in prefixes)
        assert self.shared_blocks == sum(prefix.num_blocks for prefix in prefixes if prefix.users > 1)
        assert self.live_prefixes.keys() == {prefix for prefix in prefixes if prefix.live}
        for prefix in prefixes:
            self._check_prefix(prefix)
        findable = sum(session.key is not None for session in self)
        hidden = sum(any(above.is_hidden for above in owner.path_up) for owner in self.owners.values())
        assert len(self._tree) <= findable + len(prefixes) <= len(self._tree) + hidden

    def _check_prefix(self, prefix: Prefix) -> None:
        users = [session for session in self if prefix in session.path_up]
        assert prefix.users == len(users)
        assert prefix.live == sum(session.idle_since_s is None for session in users)
        assert prefix.num_prefixes == sum(other.prefix is prefix for other in self.prefixes)
        assert (prefix.idle_since_s is None) == bool(prefix.live)
        assert (prefix in self._idle) == (prefix.users > 0 and not prefix.live)
        assert (prefix in self._unheld) == (not prefix.users)
        assert all(session.scope == prefix.scope for session in users)
        assert prefix.does_not_expire or not any(session.does_not_expire for session in users)

    def _continues(self, session: Session, shared: int) -> bool:
        """Return whether a prompt that shares so many tokens with a session continues it."""
        return shared >= max(session.answer_start, session.start)

    def _is_limited(self, owner: Owner) -> bool:
        return isinstance(owner, Session) and not owner.does_not_expire

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _order_of(self, prefix: Prefix) -> IdleOrder:
        """Return the order in which a prefix without live requests stands."""
        return self._idle if prefix.users else self._unheld

    def _begin_use(self, prefix: Prefix | None, *, users: int) -> None:
        """Count a live request, and ``users`` new sessions, on a prefix and all that it stands on."""
        for above in () if prefix is None else prefix.path_up:
            if not above.live:
                self._order_of(above).remove(above)
                above.idle_since_s = None
                self.live_prefixes[above] = None
            above.live += 1
            self._count_users(above, users)

    def _end_use(self, prefix: Prefix | None, now: float | None, *, users: int) -> None:
        """Count a live request less, and ``users`` sessions."""
        for above in () if prefix is None else prefix.path_up:
            above.live -= 1
            self._count_users(above, -users)
            if not above.live:
                above.idle_since_s = now
                del self.live_prefixes[above]
                self._order_of(above).add(above)

    def _lose_user(self, prefix: Prefix | None) -> None:
        """Count an idle session less."""
        for above in () if prefix is None else prefix.path_up:
            self._count_users(above, -1)
            if not above.users:
                self._idle.remove(above)
                self._unheld.add(above)

    def _count_users(self, prefix: Prefix, more: int) -> None:
        was_shared = prefix.users > 1
        prefix.users += more
        self.shared_blocks += prefix.num_blocks * ((prefix.users > 1) - was_shared)

    def _leave_idle(self, session: Session) -> None:
        self._idle.remove(session)
        self.num_idle -= not session.does_not_expire
        session.idle_since_s = None
