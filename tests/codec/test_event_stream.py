"""The event reader: any chunking gives the same events, and memory is bounded."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.amazon_frames import frame
from understudy.codec.event_stream import (
    EventReader,
    StreamKind,
    begins_stream,
    is_event_stream,
    is_one_piece,
    last_events,
)
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
    assert [reader.feed(piece) for piece in (b"data: 4\r", b"data: 5", b"\n\n")] == [[], [], [StreamEvent("", b"4\n5")]]
    assert [reader.feed(piece) for piece in (b"data: 6\r", b"", b"\n", b"\n")] == [[], [], [], [StreamEvent("", b"6")]]


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


@pytest.mark.parametrize("piece", [b"x" * 1000, b"data: " + b"x" * 993 + b"\n"])
@pytest.mark.parametrize("content_type", [SSE, JSON])
def test_an_event_that_is_too_long_is_let_go_of(content_type: str, piece: bytes) -> None:
    """Law 10: nobody will read it any more, and a reader lives as long as its stream."""
    reader = EventReader(content_type, 2_000_000)
    assert reader.feed(b"data: " if content_type is SSE else b'{"a": "') == []
    tracemalloc.start()
    try:
        while not reader.overflow:
            assert reader.feed(bytes(bytearray(piece))) == []
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 500_000


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


# -- the end of a stream -----------------------------------------------------------------------------------------

ENDS = st.sampled_from(["\n", "\r\n", "\r"])


@given(
    datas=st.lists(st.text("ab{}:", max_size=6), max_size=6),
    most=st.integers(1, 7),
    end=ENDS,
    named=st.booleans(),
    before=st.sampled_from(["", "b", "data: ab"]),
)
def test_f14_the_last_events_are_those_that_a_reader_of_all_gives(
    datas: list[str], most: int, end: str, named: bool, before: str
) -> None:
    """F14: whichever line end the server uses, and wherever what is left of the stream begins."""
    blocks = [
        *([before] if before else []),
        *(f"event: e{end}data: {data}" if named else f"data:{data}" for data in datas),
    ]
    stream = "".join(f"{block}{end}{end}" for block in blocks).encode()
    assert last_events(StreamKind.SSE, stream, most) == read(SSE, [stream])[0][-most:]


@pytest.mark.parametrize(
    ("kind", "data", "last"),
    [
        (StreamKind.JSON, b'{"a":1}\n{"a":2}\n{"a":3}\n', [b'{"a":2}', b'{"a":3}']),
        (StreamKind.JSON, b'{"a":1}', [b'{"a":1}']),
        (StreamKind.JSON, b'[{"a":1}\n,\n{"a":2}\n]\n', [b'{"a":2}']),
        (StreamKind.JSON, b'[{"a":1}]', [b'{"a":1}']),
        (StreamKind.JSON, b'cut"}\n,\n{"a":2} ]', [b'{"a":2}']),
        (StreamKind.JSON, b'\n{"a":2} ]', [b'{"a":2}']),
        (StreamKind.JSON, b"[]", []),
        (StreamKind.AMAZON, frame({":event-type": "a"}) + frame({":event-type": "b"}) * 2, [b"", b""]),
    ],
)
def test_the_last_two_events_of_other_framings(kind: StreamKind, data: bytes, last: list[bytes]) -> None:
    assert [event.data for event in last_events(kind, data, 2)] == last


def test_of_amazons_messages_the_last_kilobytes_are_looked_at() -> None:
    """Law 10: to look for a message costs a checksum for each byte."""
    message = frame({":event-type": "a"}, b"{}")
    for padding, found in ((8 * 1024 - len(message), True), (8 * 1024 - len(message) + 1, False)):
        assert bool(last_events(StreamKind.AMAZON, message + b"x" * padding, 4)) is found


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        (StreamKind.SSE, b"data: x", True),
        (StreamKind.SSE, b"data: x\n\n", True),
        (StreamKind.SSE, b"data: x\ndata: y\n", True),
        (StreamKind.SSE, b"data: x\na\ndata: y", True),
        (StreamKind.SSE, b"data: x\n\ndata: y", False),
        (StreamKind.SSE, b"data: x\n\ndata: y\nid: 1\n", False),
        (StreamKind.SSE, b"data: x\r\n\r\ndata: y", False),
        (StreamKind.SSE, b"data: x\r\rdata: y", False),
        (StreamKind.SSE, b"data: x\rdata: y", True),
        (StreamKind.SSE, b"\n\ndata: y", False),
        (StreamKind.SSE, b"\ndata: y", True),
        (StreamKind.SSE, b"", True),
        (StreamKind.JSON, b'{"a": 1', True),
        (StreamKind.JSON, b'{"a": 1}\n', True),
        (StreamKind.JSON, b'{"a": 1}\n{"a"', False),
        (StreamKind.JSON, b'"a": 1}]\n', False),
        (StreamKind.JSON, b'"a": 1}\n]\n', False),
        (StreamKind.AMAZON, b"x", False),
    ],
)
def test_f14_whether_what_is_left_is_one_event(kind: StreamKind, data: bytes, expected: bool) -> None:
    """F14: of an event that is longer than what is kept its beginning is missing."""
    assert is_one_piece(kind, data) is expected


@pytest.mark.parametrize("field", [b"data: x", b"event: x", b"error: x", b"id: x", b"retry: 1", b": x", b"data:"])
def test_a_stream_is_known_by_its_first_field(field: bytes) -> None:
    """Whatever its type: behind a byte order mark and white space, but not behind much of it."""
    for before in (b"", b"\xef\xbb\xbf", b"\n \r\n", b" " * (64 - len(field))):
        assert begins_stream(before + field)
    assert not begins_stream(b" " * 64 + field)
    assert not begins_stream(b"x" + field)
    assert not begins_stream(field.partition(b":")[0])


@pytest.mark.parametrize(
    ("lines", "events"),
    [
        ("data: 1|error: 2||", [("", "1")]),
        ("error: 1|error: 2||", [("error", "1")]),
        ("error: 1||data: 2||", [("error", "1"), ("", "2")]),
        ("event: a|event: b|data: 1||data: 2||", [("b", "1"), ("", "2")]),
        ("event: a||data: 1||", [("", "1")]),
        ("datax: 1||", []),
        ("\ufeffdata: 1||\ufeffdata: 2||", [("", "1")]),
    ],
)
def test_fields_of_an_event(lines: str, events: list[tuple[str, str]]) -> None:
    """The last name counts, and for one event only; an error that stands in no data is its own event."""
    found, _ = read(SSE, [lines.replace("|", "\n").encode()])
    assert [(event.name, event.data.decode()) for event in found] == events


@pytest.mark.parametrize("field", [b"data: ", b"error: "])
def test_the_limit_is_the_longest_event(field: bytes) -> None:
    """S07: each line of data costs one byte more than it has; the next event has all again."""
    for size in (1, 5, 1000):
        for length, whole in ((99, True), (100, False)):
            stream = (field + b"x" * (length - len(field)) + b"\n\n") * 3
            reader = EventReader(SSE, 99)
            events = [event for at in range(0, len(stream), size) for event in reader.feed(stream[at : at + size])]
            assert (len(events), reader.overflow) == ((3, False) if whole else (0, True))
    reader = EventReader(SSE, 3 * 5 + len(b"data:1"))
    assert reader.feed(b"data: 1234\n" * 3 + b"data:1\n\n") == [StreamEvent("", b"1234\n1234\n1234\n1")]
    assert reader.feed(b"data: 1234\n" * 3 + b"data:12\n\n") == []
    assert reader.overflow
