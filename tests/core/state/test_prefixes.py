"""The tree of prefixes agrees with a search through everything."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from service.core.messages.packing import agreement, pack
from service.core.state.owners import Prefix, Session
from service.core.state.prefixes import PrefixTree

BLOCK = 16

# Blocks of few kinds, so that prompts often agree, and part of another behind them.
prompts = st.tuples(st.lists(st.integers(0, 1), max_size=4), st.integers(0, 20), st.integers(0, 2)).map(
    lambda drawn: [*(token for block in drawn[0] for token in [block] * BLOCK), *[drawn[2]] * drawn[1], 5]
)


class Tree(PrefixTree):
    """Sessions that enter as prompts do in core, without memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sessions: list[Session] = []
        self.prefixes: list[Prefix] = []
        self._numbers = count()

    def put(self, prompt: list[int], scope: str = "mine") -> Session:
        packed = pack(prompt)
        found = self.find((scope,), packed)
        prefix = found.prefix
        if found.child is not None and found.cut is not None:
            prefix = self.split(found.child, found.cut, next(self._numbers))
            self.prefixes.append(prefix)
        session = Session(next(self._numbers), (scope,), prefix=prefix, packed=packed)
        self.enter(session)
        self.sessions.append(session)
        return session


def tokens_of(session: Session) -> bytes:
    return b"".join(prefix.tokens for prefix in reversed(list(session.path_up)))


@given(st.lists(prompts, max_size=8), prompts)
def test_it_finds_the_longest_agreement_of_all(known: list[list[int]], prompt: list[int]) -> None:
    tree = Tree()
    for tokens in known:
        tree.put(tokens)
    for session in tree.sessions:
        assert session.packed.startswith(tokens_of(session))
    limit = len(prompt) - 1
    longest = max((agreement(pack(tokens), 0, pack(prompt), 0) for tokens in known), default=0)
    found = tree.find(("mine",), pack(prompt))
    start = 0 if found.prefix is None else found.prefix.end
    reusable = start if found.cut is None else found.cut
    assert reusable == min(longest, limit) // BLOCK * BLOCK
    assert found.tokens >= reusable
    assert pack(prompt[:start]) == b"".join(
        p.tokens for p in reversed(list(found.prefix.path_up if found.prefix else ()))
    )


@given(st.lists(prompts, max_size=8))
def test_what_stands_on_one_prefix_begins_differently(known: list[list[int]]) -> None:
    tree = Tree()
    for tokens in known:
        tree.put(tokens)
    seen = set()
    for prefix in tree.prefixes:
        assert (prefix.prefix, prefix.tokens[: BLOCK * 4]) not in seen
        seen.add((prefix.prefix, prefix.tokens[: BLOCK * 4]))
        assert prefix.num_prefixes == sum(other.prefix is prefix for other in tree.prefixes)


def test_it_never_looks_into_another_scope() -> None:
    tree = Tree()
    tree.put(list(range(40)), "mine")
    assert tree.find(("yours",), pack(range(40))).child is None
    assert tree.find(("mine",), pack(range(40))).child is not None


def test_a_session_that_has_left_is_not_found() -> None:
    tree = Tree()
    session = tree.put(list(range(40)))
    tree.leave(session)
    assert tree.find(("mine",), pack(range(40))).child is None
    assert len(tree) == 0


@given(st.lists(st.integers(0, 2), max_size=40), st.lists(st.integers(0, 2), max_size=40), st.integers(0, 5))
def test_agreement_is_counted_to_the_token(a: list[int], b: list[int], start: int) -> None:
    expected = next((i for i, (x, y) in enumerate(zip(a[start:], b[start:], strict=False)) if x != y), None)
    if expected is None:
        expected = max(0, min(len(a), len(b)) - start)
    assert agreement(pack(a), start, pack(b), start) == expected
