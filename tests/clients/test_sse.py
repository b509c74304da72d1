"""The decoder gives the same events however the bytes are split."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import sse
from clients.sse import Comment, SSEDecoder


def decoded(*pieces: bytes) -> list[str]:
    decoder = SSEDecoder()
    return [data for piece in pieces for data in decoder.feed(piece)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_ends_a_line(end):
    assert decoded(b"data: a" + end * 2 + b"data: b" + end * 2) == ["a", "b"]


def test_crlf_split_between_reads_is_one_line_end():
    assert decoded(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == ["a\nb"]


def test_comments_and_other_fields_are_passed_over():
    assert decoded(b": keep-alive\n\nevent: x\nid: 3\nretry: 10\nunknown\ndata: a\n\n:\n\n") == ["a"]


def test_comments_come_out_if_asked_for_even_inside_an_event():
    decoder = SSEDecoder(keep_comments=True)
    items = decoder.feed(b": queued position=1\n\ndata: a\n:b\ndata: c\n\n")
    assert items == ["queued position=1", "b", "a\nc"]
    assert [isinstance(item, Comment) for item in items] == [True, True, False]


def test_data_lines_of_one_event_are_joined():
    assert decoded(b"data: a\ndata:b\ndata:  c\ndata\n\n") == ["a\nb\n c\n"]


def test_byte_order_mark_at_the_start_is_dropped():
    assert decoded(b"\xef\xbb", b"\xbfdata: a\n\n") == ["a"]


def test_event_without_its_blank_line_is_dropped():
    assert decoded(b"data: a\n\ndata: b\n") == ["a"]


def test_endless_event_is_refused(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    decoder = SSEDecoder()
    decoder.feed(b"data: " + b"x" * 900 + b"\n")
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        decoder.feed(b"data: " + b"x" * 100 + b"\n")


def test_many_events_in_one_stream_are_not_too_large(monkeypatch):
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    assert len(decoded(*[b"data: " + b"x" * 20 + b"\n\n"] * 100)) == 100


STREAM = ": hi\r\n\r\ndata: grüß\n\ndata: 日本\rdata: 🙂\r\r\ndata: end\r\n\r\n".encode()


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_splits_anywhere_even_inside_a_character_change_nothing(splits):
    edges = [0, *sorted(splits), len(STREAM)]
    pieces = [STREAM[start:end] for start, end in pairwise(edges)]
    assert decoded(*pieces) == decoded(STREAM) == ["grüß", "日本\n🙂", "end"]
