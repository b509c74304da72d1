"""Sessions: conversations, and how a turn finds the one that it continues.

A session owns one sequence: its tokens, and through its number the KV in `KVMemory`. It is *busy* while a request is
live in it and *idle* between turns. Idle sessions are kept oldest first, so that blocks are taken from those that have
been silent longest. A session without KV is useless, since every turn brings the whole history, and is dropped.

A turn finds a session in one of two ways: by its name, or, if it has none, by its tokens inside its scope.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from service.core.state.prefixes import PrefixIndex, common_prefix

Scope = tuple[str, str]  # (tenant, user): no KV is ever shared between two


@dataclass(slots=True, eq=False)
class Session:
    """A conversation: its tokens so far, and where its last answer starts."""

    sequence: int
    scope: Scope | None  # None: never found by its tokens
    name: str | None = None
    tokens: list[int] = field(default_factory=list)
    tenant: str = ""  # of its last turn
    answer_start: int = 0
    hashed: int = 0  # the last of the `block_hashes` of its tokens before that
    idle_since_s: float | None = None  # None: busy

    @property
    def can_be_continued(self) -> bool:
        """Whether a later turn could find it."""
        return self.scope is not None or self.name is not None


class SessionTable:
    """All sessions.

    Always true: idle sessions are in order of age, and in the index if they have a scope; busy ones are in neither.
    Every session with a name is found under it.
    """

    def __init__(self, ttl_s: float, max_idle: int) -> None:
        self.ttl_s = ttl_s
        self.max_idle = max_idle
        self._busy: set[Session] = set()
        self._idle: dict[Session, None] = {}  # insertion order is age
        self._on_device: dict[Session, None] = {}  # idle ones that may have device blocks, same order
        self._named: dict[str, Session] = {}
        self._index: PrefixIndex[Scope, Session] = PrefixIndex()
        self._next_sequence = 0

    @property
    def num_idle(self) -> int:
        """Number of sessions between turns."""
        return len(self._idle)

    def __iter__(self) -> Iterator[Session]:
        """Iterate over all sessions, busy and idle."""
        yield from self._busy
        yield from self._idle

    def open(self, scope: Scope | None, name: str | None = None) -> Session:
        """Open a busy session. With a name, it is found by that alone; no other session has the name."""
        session = Session(self._next_sequence, None if name is not None else scope, name)
        self._next_sequence += 1
        self._busy.add(session)
        if name is not None:
            self._named[name] = session
        return session

    def named(self, name: str) -> Session | None:
        """Return the session with that name, busy or idle."""
        return self._named.get(name)

    def resume(self, name: str, prompt: tuple[int, ...]) -> tuple[Session, int] | None:
        """Make the idle session with that name busy. Return it and how many leading tokens the prompt shares."""
        session = self._named.get(name)
        if session is None:
            return None
        self._leave_idle(session)
        self._busy.add(session)
        return session, common_prefix(session.tokens, prompt)

    def adopt(self, scope: Scope, prompt: Sequence[int], hashes: Sequence[int]) -> tuple[Session, int] | None:
        """Make the idle session that the prompt continues busy. Return it and how many leading tokens they share.

        ``hashes`` are the prompt's `block_hashes`. The tokens may differ only from the start of the session's last
        answer on, since clients trim and edit answers.
        """
        found = self._index.find(scope, prompt, hashes)
        if found is None:
            return None
        session, shared = found
        self._leave_idle(session)
        self._busy.add(session)
        return session, shared

    def make_idle(self, session: Session, now: float) -> None:
        """End a turn: the session becomes the youngest idle one."""
        self._busy.remove(session)
        session.idle_since_s = now
        self._idle[session] = self._on_device[session] = None
        if session.scope is not None:
            self._index.add(session.scope, session.tokens, session.answer_start, session.hashed, session)

    def close(self, session: Session) -> None:
        """Forget a session, busy or idle. The caller drops its KV."""
        if session.idle_since_s is None:
            self._busy.remove(session)
        else:
            self._leave_idle(session)
        if session.name is not None:
            del self._named[session.name]

    @property
    def idle(self) -> list[Session]:
        """The sessions between turns, longest silent first."""
        return list(self._idle)

    @property
    def idle_on_device(self) -> list[Session]:
        """The idle sessions that have device blocks, and perhaps some that have lost them."""
        return list(self._on_device)

    def left_device(self, session: Session) -> None:
        """Remove an idle session without device blocks from `idle_on_device`."""
        self._on_device.pop(session, None)

    def close_scope(self, scope: Scope) -> list[Session]:
        """Remove the scope from its busy sessions, so that they are not kept. Return its idle ones, to be dropped.

        O(sessions): a scope ends once, so an index would not pay.
        """
        for session in self._busy:
            if session.scope == scope:
                session.scope = None
        return [session for session in self._idle if session.scope == scope]

    def oldest_idle(self) -> Session | None:
        """Return the idle session that has been silent longest."""
        return next(iter(self._idle), None)

    def overdue(self, now: float) -> tuple[Session, str] | None:
        """Return the oldest idle session and why to drop it, ``expired`` or ``limit`` (too many); None: keep it."""
        oldest = self.oldest_idle()
        if oldest is None or oldest.idle_since_s is None:
            return None
        if now - oldest.idle_since_s >= self.ttl_s:
            return oldest, "expired"
        return (oldest, "limit") if len(self._idle) > self.max_idle else None

    def next_expiry_s(self) -> float | None:
        """Return when the oldest idle session expires."""
        oldest = self.oldest_idle()
        return None if oldest is None or oldest.idle_since_s is None else oldest.idle_since_s + self.ttl_s

    def check(self) -> None:
        """Raise AssertionError if an invariant is broken."""
        assert not self._busy & self._idle.keys()
        assert all(s.idle_since_s is None for s in self._busy)
        ages = [s.idle_since_s for s in self._idle]
        assert None not in ages
        assert ages == sorted(ages, key=lambda age: age or 0.0)
        assert list(self._on_device) == [s for s in self._idle if s in self._on_device]
        assert len(self._index) == sum(s.scope is not None for s in self._idle)
        assert self._named == {s.name: s for s in self if s.name is not None}
        assert all(s.scope is None for s in self._named.values())

    def _leave_idle(self, session: Session) -> None:
        del self._idle[session]
        self._on_device.pop(session, None)
        session.idle_since_s = None
        if session.scope is not None:
            self._index.remove(session.scope, session.answer_start, session.hashed, session)
