"""The event reader: any chunking gives the same events, and memory is bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec.event_stream import EventReader, StreamKind, is_event_stream
from understudy.codec.json_rows import LIMIT
from understudy.dialects.base import StreamEvent

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json; charset=UTF-8"


def read(content_type: str, chunks: list[bytes]) -> tuple[list[StreamEvent], EventReader]:
    """Feed the chunks and finish."""
    reader = EventReader(content_type)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return events + reader.finish(), reader


@st.composite
def chunked(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    """Bytes, cut anywhere."""
    whole = draw(data)
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    return [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_server_sent_events(end: str, size: int) -> None:
    """S05: LF, CRLF or CR, comments, multi-line data, a BOM, split at any byte."""
    lines = [
        "\ufeff: comment",
        "event: message_start",
        'data: {"a":',
        "data:1}",
        "id: 5",
        "",
        "",
        ":keep-alive",
        "data:  two blanks",
        "",
        "event: no data",
        "",
        "data",
        "",
        "retry: 10",
        "data: [DONE]",
        "",
        "",
    ]
    stream = end.join(lines).encode()
    chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
    events, reader = read(SSE, chunks)
    assert events == [
        StreamEvent("message_start", b'{"a":\n1}'),
        StreamEvent("", b" two blanks"),
        StreamEvent("", b""),
        StreamEvent("", b"[DONE]"),
    ]
    assert not reader.failed and not reader.overflow


def test_an_event_is_there_with_the_byte_that_ends_it() -> None:
    """S05: a CR ends the line at once; the LF that may follow is not waited for and is no empty line."""
    reader = EventReader(SSE)
    assert reader.feed(b"data: 1\r\n\r") == [StreamEvent("", b"1")]
    assert reader.feed(b"\ndata: 2\r") == []
    assert reader.feed(b"\ndata: 3\r\r") == [StreamEvent("", b"2\n3")]


def test_a_missing_empty_line_at_the_end_is_forgiven() -> None:
    reader = EventReader(SSE)
    assert reader.feed(b"data: 1\n\nevent: error\ndata: [DONE]") == [StreamEvent("", b"1")]
    assert reader.finish() == [StreamEvent("error", b"[DONE]")]
    assert reader.finish() == []


_line = st.sampled_from([b"data: x", b"data:", b"data", b"event: e", b": c", b"", b"id: 1", b"\xef\xbb\xbf"])
_sse = st.lists(st.tuples(_line | st.binary(max_size=6), st.sampled_from([b"\n", b"\r", b"\r\n"])), max_size=12).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


@given(chunks=chunked(_sse))
def test_any_chunking_gives_the_same_server_sent_events(chunks: list[bytes]) -> None:
    """S05"""
    events, _ = read(SSE, chunks)
    assert events == read(SSE, [b"".join(chunks)])[0]


@given(chunks=chunked(st.binary(max_size=40) | st.text('[]{}",\\ a1\n', max_size=40).map(str.encode)))
def test_any_chunking_gives_the_same_elements(chunks: list[bytes]) -> None:
    """S05: for the JSON form too, also on garbage."""
    events, reader = read(JSON, chunks)
    whole, at_once = read(JSON, [b"".join(chunks)])
    assert events == whole
    assert reader.failed == at_once.failed


_objects = st.lists(
    st.dictionaries(st.text(max_size=4), st.text(max_size=6) | st.lists(st.text(max_size=3))), max_size=4
)


@given(objects=_objects, data=st.data(), separator=st.sampled_from([",", ",\r\n", "\n,\n"]))
def test_a_json_array_gives_its_elements(objects: list[object], data: st.DataObject, separator: str) -> None:
    """S05: one event per element of a Gemini stream without ``alt=sse``."""
    stream = ("[" + separator.join(json.dumps(item) for item in objects) + "\n]\n").encode()
    events, reader = read(JSON, data.draw(chunked(st.just(stream))))
    assert [json.loads(event.data) for event in events] == objects
    assert not reader.failed
    assert reader.kind is StreamKind.JSON


@pytest.mark.parametrize(
    ("stream", "elements"),
    [
        (b'{"error":{"code":429}}', [b'{"error":{"code":429}}']),
        (b'{"a":1}\n{"a":2}\n', [b'{"a":1}', b'{"a":2}']),
        (b'\xef\xbb\xbf[{"a":"]}\\"{"}', [b'{"a":"]}\\"{"}']),
        (b"", []),
        (b"[]", []),
    ],
)
def test_other_rows_of_json_objects(stream: bytes, elements: list[bytes]) -> None:
    events, reader = read(JSON, [stream])
    assert [event.data for event in events] == elements
    assert not reader.failed


@pytest.mark.parametrize("stream", [b"<html>", b'["a"]', b"[1]", b"[[{}]]", b'{"a":1}]', b"RIFF\x00"])
def test_what_is_no_stream_fails(stream: bytes) -> None:
    reader = EventReader(JSON)
    reader.feed(stream)
    assert reader.failed
    assert reader.feed(b"{}") == []


@pytest.mark.parametrize("size", [1 << 12, 1 << 16, 1 << 20])
@pytest.mark.parametrize(
    ("content_type", "start", "filler"),
    [
        (SSE, b"data: 1\n\ndata: ", b"x"),
        (SSE, b"data: 1\n\n: ", b"x"),
        (SSE, b"data: 1\n\n", b"data:\n"),
        (JSON, b'[{"a":1},{"a":"', b"x"),
        (JSON, b'[{"a":1},{"a":', b"["),
    ],
)
def test_memory_is_bounded(content_type: str, start: bytes, filler: bytes, size: int) -> None:
    """S07: an event over the limit ends the reading; what came before it was delivered."""
    stream = start + filler * (LIMIT + 10)
    reader = EventReader(content_type)
    events = []
    for at in range(0, len(stream), size):
        events += reader.feed(stream[at : at + size])
    assert len(events) == 1
    assert reader.overflow
    assert reader.feed(b"\n\ndata: 2\n\n") == []
    assert reader.finish() == []


@pytest.mark.parametrize("content_type", [SSE, JSON])
def test_many_small_events_are_no_overflow(content_type: str) -> None:
    one = b"data: {}\n\n" if content_type is SSE else b"{},\n"
    reader = EventReader(content_type)
    assert len(reader.feed(one * (LIMIT // 2))) == LIMIT // 2
    assert not reader.overflow


def test_event_stream_types() -> None:
    assert is_event_stream("text/event-stream")
    assert is_event_stream("Text/Event-Stream ;charset=utf-8")
    assert not is_event_stream("application/json")
    assert is_event_stream("application/vnd.amazon.eventstream")
    assert is_event_stream("application/x-ndjson")
    assert not is_event_stream("")
