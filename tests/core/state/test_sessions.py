"""Idle and busy sessions, and the prefixes that they share."""

from service.core.messages.packing import pack
from service.core.state.owners import Prefix, Session
from service.core.state.sessions import SessionTable

SCOPE = ("tenant", "user")


def busy_session(table: SessionTable, tokens: list[int], prefix: Prefix | None = None, name: str = "") -> Session:
    session = table.open(SCOPE, name or None, prefix)
    table.begin_turn(session, tuple(tokens), pack(tokens))
    table.check()
    return session


def idle_session(table: SessionTable, tokens: list[int], now: float, prefix: Prefix | None = None) -> Session:
    session = busy_session(table, tokens, prefix)
    session.answer_start = len(tokens)
    table.make_idle(session, now)
    table.check()
    return session


def shared(table: SessionTable, tokens: list[int]) -> Prefix:
    """Split the session that these tokens find."""
    found = table.find(SCOPE, pack(tokens))
    assert found.child is not None
    assert found.cut is not None
    return table.split(found.child, found.cut)


def test_an_idle_session_is_continued_once() -> None:
    table = SessionTable(ttl_s=60, max_idle=9)
    session = idle_session(table, list(range(20)), now=0)
    found = table.find(SCOPE, pack(range(25)))
    assert table.is_continued_by(found)
    assert (found.child, found.tokens) == (session, 20)
    table.resume(session)
    assert not table.is_continued_by(table.find(SCOPE, pack(range(25))))
    assert table.num_idle == 0
    table.check()


def test_a_prompt_that_leaves_the_history_before_the_last_answer_continues_nothing() -> None:
    table = SessionTable(ttl_s=60, max_idle=9)
    idle_session(table, list(range(40)), now=0)
    assert not table.is_continued_by(table.find(SCOPE, pack([*range(39), 7, 8])))
    assert not table.is_continued_by(table.find(SCOPE, pack(range(40))))  # it asks for another answer


def test_a_session_without_scope_is_never_found() -> None:
    table = SessionTable(ttl_s=60, max_idle=9)
    session = table.open(None)
    table.begin_turn(session, tuple(range(20)), pack(range(20)))
    table.make_idle(session, 0)
    assert table.find(SCOPE, pack(range(30))).child is None
    table.check()


def test_what_is_idle_is_overdue_longest_silent_first_when_its_time_is_up() -> None:
    table = SessionTable(ttl_s=10, max_idle=9)
    first, second = idle_session(table, [1] * 16, now=0), idle_session(table, [2] * 16, now=5)
    assert table.overdue(9.9) is None
    assert table.next_expiry_s() == 10
    assert table.overdue(10.0) == (first, "expired")
    table.close(first)
    assert table.overdue(10.0) is None
    assert table.overdue(15.0) == (second, "expired")


def test_a_session_that_does_not_expire_is_never_overdue_and_lets_those_behind_it_be() -> None:
    table = SessionTable(ttl_s=10, max_idle=0)
    kept = busy_session(table, [*range(16)] * 2)
    table.keep(kept)
    table.make_idle(kept, 0)
    assert (table.overdue(99), table.num_idle, table.next_expiry_s()) == (None, 0, None)
    other = idle_session(table, [2] * 16, now=1)
    assert table.overdue(1) == (other, "limit")
    prefix = shared(table, [*range(16), *range(15), 9])
    assert prefix.does_not_expire
    table.close(kept)
    assert table.overdue(1) == (other, "limit")
    table.close(other)
    assert table.overdue(99) is None
    table.check()


def test_what_stands_below_a_session_that_does_not_expire_does_not_either() -> None:
    table = SessionTable(ttl_s=10, max_idle=9)
    first = busy_session(table, [*range(32), 1])
    prefix = shared(table, [*range(32), 2])
    kept = busy_session(table, [*range(32), 2], prefix)
    table.keep(kept)
    for session in (first, kept):
        table.make_idle(session, 0)
    table.close(first)
    assert table.overdue(99) is None
    table.check()


def test_one_session_too_many_is_overdue_at_once() -> None:
    table = SessionTable(ttl_s=100, max_idle=1)
    first = idle_session(table, [1] * 16, now=0)
    assert table.overdue(0) is None
    idle_session(table, [2] * 16, now=1)
    assert table.overdue(1) == (first, "limit")


def test_a_new_turn_makes_a_session_young_again() -> None:
    table = SessionTable(ttl_s=10, max_idle=9)
    first, second = idle_session(table, [1] * 16, now=0), idle_session(table, [2] * 16, now=1)
    table.resume(first)
    table.make_idle(first, 2)
    assert table.idle == [second, first]
    table.check()


def test_a_prefix_is_idle_behind_its_sessions_and_unheld_before_all_when_they_are_gone() -> None:
    table = SessionTable(ttl_s=100, max_idle=9)
    first = busy_session(table, [*range(32), 1])
    prefix = shared(table, [*range(32), 2])
    second = busy_session(table, [*range(32), 2], prefix)
    assert (prefix.users, prefix.live, prefix.num_blocks, table.shared_blocks) == (2, 2, 2, 2)
    assert table.idle == []
    other = idle_session(table, [9] * 20, now=0)
    for session in (first, second):
        table.make_idle(session, 1)
        table.check()
    assert table.idle == [other, first, second, prefix]
    table.close(first)
    table.close(second)
    assert table.idle == [prefix, other]
    assert table.shared_blocks == 0
    table.check()
    table.drop(prefix)
    assert table.num_prefixes == table.prefix_blocks == 0
    table.check()


def test_a_hidden_prefix_is_not_found_and_keeps_its_sessions() -> None:
    table = SessionTable(ttl_s=100, max_idle=9)
    busy_session(table, [*range(32), 1])
    prefix = shared(table, [*range(32), 2])
    second = busy_session(table, [*range(32), 2], prefix)
    table.hide(second)
    assert table.find(SCOPE, pack(range(40))).prefix is None
    table.check()
    assert prefix.users == 2


def test_a_name_moves_on_when_its_turn_does_not_continue_the_session() -> None:
    table = SessionTable(ttl_s=100, max_idle=9)
    session = busy_session(table, list(range(40)), name="s")
    session.answer_start = 40
    table.make_idle(session, 0)
    assert table.continued("s", SCOPE, pack([*range(50)])) == (session, 40)
    assert table.continued("s", SCOPE, pack([*range(30), 7])) is None
    assert table.named("s") is None
    assert session.can_be_continued  # by its tokens
    table.check()
