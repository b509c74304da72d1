"""Messages have the right length, and only share what they should share."""

from clients.load.words import WORDS, Writer
from clients.trace import Trace, TraceConversation, TraceTurn


def trace(count: int, *turns: TraceTurn, seed: int = 0) -> Trace:
    return Trace(tuple(TraceConversation(f"c{number}", 0.0, turns) for number in range(count)), seed)


def test_the_same_seed_writes_the_same():
    one, same, other = (trace(2, TraceTurn(50, 1), seed=seed) for seed in (1, 1, 2))
    assert Writer(one).message(one.conversations[1], 0) == Writer(same).message(same.conversations[1], 0)
    assert Writer(one).message(one.conversations[1], 0) != Writer(other).message(other.conversations[1], 0)


def test_conversations_differ_from_the_first_word_on():
    many = trace(len(WORDS), TraceTurn(3, 1))
    firsts = {Writer(many).message(each, 0).split()[0] for each in many.conversations}
    assert len(firsts) == len(WORDS)


def test_more_conversations_than_words_differ_in_the_first_two():
    more = trace(len(WORDS) + 5, TraceTurn(3, 1))
    writer = Writer(more)
    begins = {" ".join(writer.message(each, 0).split()[:2]) for each in more.conversations}
    assert len(begins) == len(more.conversations)


def test_a_message_has_as_many_words_as_make_its_tokens():
    two = trace(1, TraceTurn(90, 1), TraceTurn(30, 1))
    writer = Writer(two, tokens_per_word=1.5)
    assert [len(writer.message(two.conversations[0], turn).split()) for turn in (0, 1)] == [60, 20]


def test_known_text_is_said_as_it_is():
    known = trace(1, TraceTurn(3, 1, text="Guten Tag"))
    assert Writer(known).message(known.conversations[0], 0) == "Guten Tag"


def test_equal_blocks_are_equal_text():
    pair = Trace(
        (
            TraceConversation("a", 0.0, (TraceTurn(600, 1, hash_ids=(5, 6)),)),
            TraceConversation("b", 0.0, (TraceTurn(600, 1, hash_ids=(5, 7)),)),
        )
    )
    one, other = (Writer(pair).message(each, 0).split() for each in pair.conversations)
    assert len(one) == len(other) == 600
    assert one[:512] == other[:512]
    assert one[512:] != other[512:]
