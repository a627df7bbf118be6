"""Server-sent events: every way to cut and to end them."""

from collections import deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codexdb.agent.model import RequestFailed
from codexdb.agent.sse import SseReader


def read(*chunks: bytes) -> list[tuple[str, str]]:
    reader = SseReader()
    return [pair for chunk in chunks for pair in reader.feed(chunk)] + reader.end()


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_every_line_ending_separates_lines_and_events(newline: bytes) -> None:
    body = b"event: a\ndata: 1\n\ndata:2\n\n".replace(b"\n", newline)
    assert read(body) == [("a", "1"), ("message", "2")]


def test_data_lines_of_one_event_are_joined() -> None:
    assert read(b"data: 1\ndata:  2\ndata\n\n") == [("message", "1\n 2\n")]


def test_a_byte_order_mark_is_skipped_also_when_cut() -> None:
    assert read(b"\xef", b"\xbb\xbfdata: 1\n\n") == [("message", "1")]


def test_comments_and_unknown_fields_are_skipped() -> None:
    assert read(b": ping\n\nid: 7\nretry: 9\nfoo: bar\ndata: 1\n: ping\n\n") == [("message", "1")]


def test_an_event_without_data_is_no_event_and_leaves_no_name_behind() -> None:
    assert read(b"event: a\n\ndata: 1\n\n") == [("message", "1")]


@pytest.mark.parametrize("tail", [b"", b"\n", b"\r"])
def test_the_last_event_needs_no_blank_line(tail: bytes) -> None:
    assert read(b"data: 1\n\nevent: b\ndata: 2" + tail) == [("message", "1"), ("b", "2")]


def test_invalid_utf_8_is_replaced() -> None:
    assert read(b"data: a\xff\xe2\x82\n\n") == [("message", "a\ufffd\ufffd")]


def test_other_line_separators_of_unicode_do_not_end_a_line() -> None:
    assert read("data: a\u2028b\x0bc\n\n".encode()) == [("message", "a\u2028b\x0bc")]


@given(st.lists(st.integers(0, 60), max_size=8))
def test_where_the_body_is_cut_makes_no_difference(cuts: list[int]) -> None:
    body = "\ufeffevent: x\r\ndata: ä€😀\r\n\r\ndata: 1\rdata: 2\r\r: c\n\ndata: end".encode()
    edges = sorted({0, *cuts, len(body)})
    pieces = [body[a:b] for a, b in pairwise(edges)]
    assert read(*pieces) == [("x", "ä€😀"), ("message", "1\n2"), ("message", "end")]


@pytest.mark.parametrize("piece", [b"data: 0123456789", b"data: 0123456789\n", b"0"])
def test_an_event_longer_than_the_bound_is_refused(piece: bytes) -> None:
    reader = SseReader(event_bytes_max=100)
    with pytest.raises(RequestFailed, match="longer than 100 bytes") as caught:
        deque(map(reader.feed, [piece] * 200))
    assert not caught.value.again


def test_the_bound_is_for_one_event_not_for_the_body() -> None:
    reader = SseReader(event_bytes_max=100)
    assert sum(len(reader.feed(b"data: 0123456789\n\n: ping\n\n")) for _ in range(100)) == 100
