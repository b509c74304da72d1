"""Idle and busy sessions."""

from service.core.messages.hashes import block_hashes
from service.core.state.sessions import Session, SessionTable

SCOPE = ("tenant", "user")


def idle_session(table: SessionTable, tokens: list[int], answer_start: int, now: float) -> Session:
    session = table.open(SCOPE)
    session.tokens, session.answer_start, session.hashed = tokens, answer_start, block_hashes(tokens[:answer_start])[-1]
    table.make_idle(session, now)
    table.check()
    return session


def test_an_adopted_session_is_busy_and_cannot_be_adopted_again() -> None:
    table = SessionTable(ttl_s=60, max_idle=9)
    session = idle_session(table, [1, 2, 3], 2, now=0)
    assert table.adopt(SCOPE, (1, 2, 3, 4), block_hashes((1, 2, 3, 4))) == (session, 3)
    assert table.adopt(SCOPE, (1, 2, 3, 4), block_hashes((1, 2, 3, 4))) is None
    assert table.num_idle == 0
    table.check()


def test_a_session_without_scope_is_never_found() -> None:
    table = SessionTable(ttl_s=60, max_idle=9)
    session = table.open(None)
    session.tokens = [1, 2, 3]
    table.make_idle(session, 0)
    assert table.adopt(SCOPE, (1, 2, 3, 4), block_hashes((1, 2, 3, 4))) is None


def test_idle_sessions_are_overdue_oldest_first_when_their_time_is_up() -> None:
    table = SessionTable(ttl_s=10, max_idle=9)
    first, second = idle_session(table, [1], 1, now=0), idle_session(table, [2], 1, now=5)
    assert table.overdue(9.9) is None
    assert table.next_expiry_s() == 10
    assert table.overdue(10.0) == (first, "expired")
    table.close(first)
    assert table.overdue(10.0) is None
    assert table.overdue(15.0) == (second, "expired")


def test_one_session_too_many_is_overdue_at_once() -> None:
    table = SessionTable(ttl_s=100, max_idle=1)
    first = idle_session(table, [1], 1, now=0)
    assert table.overdue(0) is None
    idle_session(table, [2], 1, now=1)
    assert table.overdue(1) == (first, "limit")


def test_a_new_turn_makes_a_session_young_again() -> None:
    table = SessionTable(ttl_s=10, max_idle=9)
    first, second = idle_session(table, [1, 1], 1, now=0), idle_session(table, [2, 2], 1, now=1)
    table.adopt(SCOPE, (1, 1, 5), block_hashes((1, 1, 5)))
    table.make_idle(first, 2)
    assert table.oldest_idle() is second
    table.check()
