"""Edits of a reply on its way to the tool: any chunking gives the same bytes, and only the model's name changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from tests.support.amazon_frames import frame
from tests.support.bounds import no_hang
from tests.support.decisions import candidate, upstream
from understudy.codec.amazon_frames import TYPE
from understudy.codec.json_rows import LIMIT
from understudy.dialects import DIALECTS, Call, Endpoint, Kind
from understudy.proxy.reply_edit import (
    UNREADABLE,
    FramesToEvents,
    JsonEdit,
    ReplyEdit,
    SseEdit,
    WholeEdit,
    edit_for,
    fit_headers,
    restoring,
)
from understudy.replies.hold import Hold, Secret
from understudy.requests.sites import Recognised

ENDPOINT = Endpoint("any", Kind.GENERATING)
CHANGE = restoring((("model",), ("response", "model")), "alias")
EVENTS = (
    b"\xef\xbb\xbf: model comment\n\n"
    b'event: response.created\nid: 7\ndata: {"type": "response.created", "response": {"model" : "up-1", "n": 1.0}}\n\n'
    b'data:{"model":"up-1","choices":[{"delta":{"content":"\\"model\\": \\"up-1\\"", "model": "up-1"}}]}\r\n\r\n'
    b'data: {"model": \ndata: "up-1", "x": [1,\ndata:2]}\n\n'
    b"data\n\n"
    b"data: [DONE]\n\n"
)
RESTORED = EVENTS.replace(b'"model" : "up-1"', b'"model" : "alias"')
RESTORED = RESTORED.replace(b'data:{"model":"up-1"', b'data:{"model":"alias"')
RESTORED = RESTORED.replace(b'data: "up-1", "x"', b'data: "alias", "x"')


def run(edit: ReplyEdit, chunks: Sequence[bytes]) -> bytes:
    """Everything that goes to the tool."""
    return b"".join(edit.feed(chunk) for chunk in chunks) + edit.finish()


def cut(whole: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The same bytes in pieces."""
    edges = sorted(min(each, len(whole)) for each in cuts)
    return [whole[start:end] for start, end in zip([0, *edges], [*edges, len(whole)], strict=True)]


CUTS = st.lists(st.integers(0, 600), max_size=8)


@given(cuts=CUTS, end=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_events_keep_everything_but_the_model(cuts: list[int], end: bytes) -> None:
    """S05: split at any byte; comments, ids, spacing, nested names and the text itself stay."""
    stream = EVENTS.replace(b"\r\n", b"\n").replace(b"\n", end)
    expected = RESTORED.replace(b"\r\n", b"\n").replace(b"\n", end)
    assert run(SseEdit(CHANGE), cut(stream, cuts)) == expected


def test_each_event_goes_on_as_soon_as_it_is_whole() -> None:
    """S01: nothing waits for the next event."""
    edit = SseEdit(CHANGE)
    one = b'data: {"model": "up-1"}\n'
    assert edit.feed(one) == b""
    assert edit.feed(b"\n" + one[:9]) == one.replace(b"up-1", b"alias") + b"\n"
    assert edit.finish() == one[:9]


@given(data=st.binary(max_size=80), cuts=CUTS)
def test_what_is_no_event_passes(data: bytes, cuts: list[int]) -> None:
    """Bad input: no byte is lost, whatever it is."""
    for edit in (SseEdit(lambda data: data), JsonEdit(lambda data: data)):
        assert run(edit, cut(data, cuts)) == data


@pytest.mark.parametrize("size", [1 << 14, 1 << 20])
def test_an_event_beyond_the_limit_passes_as_it_is(size: int) -> None:
    """Law 10: what is held is bounded, and the events behind a large one are edited again."""
    large = b'data: {"model": "up-1", "text": "' + b"x" * (LIMIT + 5) + b'"}'
    small = b'data: {"model": "up-1"}\n\n'
    many = b"data: 1\n" * (LIMIT // 8 + 10)
    for first in (large + b"\n\n", large + b"\r\n\r\n", large + b"\ndata: 2\n\n", many + b"\n"):
        stream = small + first + small
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        new = small.replace(b"up-1", b"alias")
        assert run(SseEdit(CHANGE), chunks) == new + first + new


ROWS = b'{"model":"up-1","done":false}\n{"response":{"model":"up-1"}, "x":"}{\\""}\n\n{"y":1.0}\n'


@given(cuts=CUTS, array=st.booleans())
def test_rows_and_arrays(cuts: list[int], array: bool) -> None:
    """S05: lines of JSON, and Gemini's array."""
    stream = b"[" + ROWS.strip().replace(b"\n\n", b"\n").replace(b"}\n{", b"}\r\n,\r\n{") + b"]" if array else ROWS
    assert run(JsonEdit(CHANGE), cut(stream, cuts)) == stream.replace(b"up-1", b"alias")


def test_rows_beyond_the_limit_or_broken_pass_as_they_are() -> None:
    """Law 10"""
    large = b'{"model":"up-1","x":"' + b"x" * LIMIT + b'"}\n'
    stream = ROWS + large + ROWS
    chunks = [stream[at : at + 9999] for at in range(0, len(stream), 9999)]
    assert run(JsonEdit(CHANGE), chunks) == ROWS.replace(b"up-1", b"alias") + large + ROWS
    assert run(JsonEdit(CHANGE), [ROWS, b"no JSON", ROWS, b'{"a'])[-len(ROWS) - 3 :] == ROWS + b'{"a'
    assert run(JsonEdit(CHANGE), [b'{"model": "cut'])[-3:] == b"cut"


def test_a_whole_body() -> None:
    """Only the model's value changes; what is no JSON stays."""
    body = b'{ "id":1.0, "model" : "up-1", "choices":[{"model":"up-1"}]}'
    assert run(WholeEdit(CHANGE), [body]) == body.replace(b'"model" : "up-1"', b'"model" : "alias"')
    for other in (b'"model"', b'{"model": 5}', b'{"model": "cut', b""):
        assert run(WholeEdit(CHANGE), [other]) == other


# -- which reply needs which edit --------------------------------------------------------------------------------


def held(
    dialect: str, content_type: str, *, status: int = 200, encoding: str = "", body: bytes = b"", streamed: bool = True
) -> Hold:
    """A reply of an upstream of this dialect whose head is in."""
    recognised = Recognised(DIALECTS[dialect], ENDPOINT, "/any", "")
    at = candidate("a", at=upstream(dialect=dialect))
    hold = Hold(recognised, Call("alias", streamed), at, Secret("a", "sk-secret-0123456789"))
    hold.start(status, [("content-type", content_type), ("content-encoding", encoding)])
    if body:
        hold.data(body)
    return hold


@pytest.mark.parametrize(
    ("hold", "alias", "expected"),
    [
        (held("openai", "text/event-stream"), "alias", SseEdit),
        (held("openai", "application/json"), "alias", WholeEdit),
        (held("gemini", "application/json", body=b"["), "alias", JsonEdit),
        (held("openai", "text/event-stream"), None, None),
        (held("openai", "text/event-stream", status=500), "alias", None),
        (held("openai", "text/event-stream", encoding="gzip"), "alias", None),
        (held("openai", TYPE), None, None),
    ],
)  # fmt: skip
def test_which_edit(hold: Hold, alias: str | None, expected: type[ReplyEdit] | None) -> None:
    edit = edit_for(hold, hold.dialect, alias)
    assert (edit and type(edit)) is expected


def test_frames_for_a_tool_that_reads_events() -> None:
    edit = edit_for(held("openai", TYPE), DIALECTS["anthropic"], None)
    assert isinstance(edit, FramesToEvents)


@pytest.mark.parametrize(("live", "chunked"), [(True, True), (True, False), (False, True)])
def test_the_headers_fit_the_edit(live: bool, chunked: bool) -> None:
    headers = http.Headers(content_type="x", content_length="5")
    fit_headers(SseEdit(CHANGE), headers, live=live, chunked=chunked)
    assert ("content-length" in headers) is not live
    assert ("transfer-encoding" in headers) is (live and chunked)
    assert headers["content-type"] == "x"
    headers = http.Headers(content_type="x", transfer_encoding="chunked")
    fit_headers(FramesToEvents(DIALECTS["anthropic"], None), headers, live=True, chunked=True)
    assert headers["content-type"].startswith("text/event-stream")


# -- Amazon's frames ---------------------------------------------------------------------------------------------


def chunk(value: object) -> bytes:
    """A message with the inside of an event."""
    inner = base64.b64encode(json.dumps(value).encode()).decode()
    return frame({":event-type": "chunk", ":message-type": "event"}, json.dumps({"bytes": inner, "p": "abc"}).encode())


START = {"type": "message_start", "message": {"id": "m-1", "model": "up-1", "content": []}}
DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "é\n"}}
FAILURE = frame(
    {":exception-type": "throttlingException", ":message-type": "exception"}, b'{"message": "Too many requests"}'
)


@given(cuts=CUTS)
def test_frames_become_events(cuts: list[int]) -> None:
    """S05: what is inside passes unchanged, an exception as an error event."""
    stream = chunk(START) + chunk(DELTA) + FAILURE
    change = restoring(DIALECTS["anthropic"].reply_models, "alias")
    for edit, model in (
        (FramesToEvents(DIALECTS["anthropic"], None), "up-1"),
        (FramesToEvents(DIALECTS["anthropic"], change), "alias"),
    ):
        error = {"type": "throttlingException", "message": "Too many requests"}
        expected = (
            f"event: message_start\ndata: {json.dumps(START).replace('up-1', model)}\n\n"
            f"event: content_block_delta\ndata: {json.dumps(DELTA)}\n\n"
            f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n"
        )
        assert run(edit, cut(stream, cuts)) == expected.encode()


@pytest.mark.parametrize("rest", [chunk(DELTA)[:-1], chunk(DELTA)[:5], b"\x00" * 20, chunk({"x": "x" * LIMIT})])
def test_frames_that_break_off_are_no_clean_end(rest: bytes) -> None:
    """S04: what cannot be read is left out, and the tool is told."""
    got = run(FramesToEvents(DIALECTS["anthropic"], None), [chunk(START), rest])
    start, error = got.split(b"\n\n")[:2]
    assert start.startswith(b"event: message_start\n") and error.startswith(b"event: error\ndata: ")
    assert json.loads(error.partition(b"data: ")[2])["error"]["message"] == UNREADABLE


def test_a_long_line_that_comes_by_the_byte_is_read_once() -> None:
    """H02: looking at the whole line again with every byte took half a minute."""
    line = b'data: {"model":"x","pad":"' + b"a" * 200_000 + b'"}\n\n'
    edit = SseEdit(restoring([("model",)], "alias"))
    with no_hang():
        found = b"".join(edit.feed(line[at : at + 1]) for at in range(len(line)))
    assert found == line.replace(b'"x"', b'"alias"')
