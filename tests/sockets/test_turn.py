"""One request on a socket: what every kind of reply is as messages."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sockets.test_session import SSE, message, sse, stream
from understudy.sockets.turn import LONGEST_EVENT, Create, Turn

JSON = [("content-type", "application/json")]


def turn(lane: str | None = None) -> Turn:
    """A request under way."""
    return Turn(Create(lane, b'{"type": "response.create", "model": "m", "input": []}', b""), b"")


def said(one: Turn, status: int, headers: list[tuple[str, str]], *parts: bytes, cut: str = "") -> list[dict[str, Any]]:
    """All messages of a reply."""
    one.head(status, headers)
    found = [each for part in parts for each in one.data(part)] + one.end(cut)
    assert one.is_done
    return [json.loads(each) for each in found]


def error(status: int, headers: list[tuple[str, str]], body: bytes) -> dict[str, Any]:
    """The message of a reply that is an error."""
    [found] = said(turn(), status, headers, body)
    assert found["type"] == "error"
    return found


def test_e07_events_are_messages_as_they_came() -> None:
    """E07: byte for byte; what only HTTP needs (names, comments, [DONE]) is left out."""
    one = turn()
    one.head(200, SSE)
    events = [b'{"type":"response.output_text.delta",  "delta":"gr\xc3\xbcn"}', b'{"type": "keepalive"}']
    found = one.data(b": hello\n\n" + b"".join(b"event: x\ndata: " + event + b"\n\n" for event in events))
    assert found == events
    assert not one.is_done
    [last] = one.data(sse({"type": "response.completed", "response": {"id": "resp_1", "output": []}}))
    assert one.is_done
    assert (one.response, one.lasts) == ("resp_1", True)
    assert one.data(b"data: [DONE]\n\n") == one.end() == []
    assert json.loads(last)["type"] == "response.completed"


@given(st.data())
def test_events_may_be_split_anywhere_and_compressed(data: st.DataObject) -> None:
    """S05, S08: the messages are the same."""
    raw = b"".join(stream("resp_1", message("a"), message("b")))
    whole = [json.loads(each) for each in _split(turn("l"), [], raw, [])]
    encoding, sent = data.draw(st.sampled_from([("", raw), ("gzip", gzip.compress(raw))]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=6)))
    headers = [("content-encoding", encoding)] if encoding else []
    assert [json.loads(each) for each in _split(turn("l"), headers, sent, cuts)] == whole
    assert len(whole) == 4


def _split(one: Turn, headers: list[tuple[str, str]], data: bytes, cuts: list[int]) -> list[bytes]:
    one.head(200, [*SSE, *headers])
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [each for piece in pieces for each in one.data(piece)] + one.end()


@pytest.mark.parametrize("last", ["response.failed", "response.incomplete"])
def test_every_end_of_a_stream_ends_the_turn(last: str) -> None:
    one = turn("lane")
    found = said(one, 200, SSE, *stream("resp_1", message("a"), last=last))
    assert found[-1]["type"] == last
    assert all(each["stream_id"] == "lane" for each in found)
    assert one.lasts is (last == "response.incomplete")


def test_the_output_of_the_last_event_goes_before_what_came_one_by_one() -> None:
    one = turn()
    whole = {"id": "resp_1", "output": [message("whole")]}
    said(one, 200, SSE, *stream("resp_1", message("a"))[:-2], sse({"type": "response.completed", "response": whole}))
    assert json.loads(b"[" + one.transcript + b"]") == [message("whole")]


def test_the_word_in_a_text_is_no_end() -> None:
    """F08's twin: what an answer quotes ends nothing."""
    one = turn()
    one.head(200, SSE)
    quoted = {"type": "response.output_text.delta", "delta": '{"type": "response.completed"}', "x": {"type": "error"}}
    assert len(one.data(sse(quoted))) == 1
    assert not one.is_done


@pytest.mark.parametrize("cut", ["", "the upstream closed the connection"])
def test_s04_a_stream_without_its_last_event_ends_in_an_error(cut: str) -> None:
    """S04: never in silence, and never as if it were complete."""
    one = turn("lane")
    *_, last = said(one, 200, SSE, *stream("resp_1", message("a"))[:-2], cut=cut)
    assert (last["type"], last["status"], last["stream_id"]) == ("error", 502, "lane")
    assert last["error"]["code"] == "stream_disconnected"
    assert not one.lasts


def test_an_error_of_http_takes_the_form_of_the_socket() -> None:
    """E07: the vendor's own error object, its status, and the headers that mean something."""
    limit = {"type": "usage_limit_reached", "message": "limit", "plan_type": "pro", "resets_at": 1}
    headers = [*JSON, ("X-Codex-Primary-Used-Percent", "100"), ("Retry-After", "5"), ("Content-Length", "9")]
    found = error(429, [*headers, ("Set-Cookie", "a=b")], json.dumps({"error": limit}).encode())
    assert found["status"] == 429
    assert found["error"] == limit
    assert found["headers"] == {
        "content-type": "application/json",
        "x-codex-primary-used-percent": "100",
        "retry-after": "5",
    }


@pytest.mark.parametrize(
    ("status", "body", "text", "shown"),
    [
        (400, b'{"detail": "The model is not supported"}', "The model is not supported", 400),
        (404, b'{"error": "no such model"}', "no such model", 404),
        (502, b"<html>Bad Gateway</html>", "<html>Bad Gateway</html>", 502),
        (500, b"", "no reason given", 500),
        (200, b"<html>log in</html>", "<html>log in</html>", 502),
        (200, b'{"error": {"message": "late", "code": null}}', "late", 502),
        (307, b"", "no reason given", 307),
    ],
)
def test_every_other_reply_is_an_error_too(status: int, body: bytes, text: str, shown: int) -> None:
    """E07: with a status that no client takes for success."""
    found = error(status, [("content-type", "text/html")], body)
    assert found["error"]["message"] == text
    assert found["status"] == shown


def test_an_error_in_a_stream_gets_the_status_that_a_socket_has() -> None:
    """E07: without one Codex would not take it for an error, and wait."""
    flat = {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None, "sequence_number": 2}
    [found] = said(turn("lane"), 200, SSE, sse(flat))
    assert found == {
        "type": "error",
        "status": 429,
        "stream_id": "lane",
        "sequence_number": 2,
        "error": {"type": "rate_limit_error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
    }
    own = {"type": "error", "status": 418, "error": {"message": "tea"}}
    assert said(turn(), 200, SSE, sse(own)) == [own]
    [other] = said(turn(), 200, SSE, sse({"type": "error", "error": {"message": "broken", "code": "server_error"}}))
    assert other["status"] == 500


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed"])
def test_a_whole_answer_becomes_its_events(status: str) -> None:
    """An upstream that does not stream answers all the same."""
    one = turn()
    document = {"id": "resp_1", "object": "response", "status": status, "output": [message("a"), message("b")]}
    found = said(one, 200, JSON, json.dumps(document).encode())
    kinds = ["response.created", "response.output_item.done", "response.output_item.done", f"response.{status}"]
    assert [each["type"] for each in found] == kinds
    assert [each["sequence_number"] for each in found] == [0, 1, 2, 3]
    assert found[-1]["response"] == document
    assert one.lasts is (status != "failed")


def test_what_cannot_be_read_ends_the_turn() -> None:
    """Law 10: an event, and a reply that is no stream, are bounded; bytes that cannot be decoded are none."""
    one = turn()
    one.head(200, SSE)
    found = [each for _ in range(LONGEST_EVENT // (1 << 20) + 2) for each in one.data(b"data: " + b"x" * (1 << 20))]
    assert [json.loads(each)["error"]["code"] for each in found] == ["stream_disconnected"]
    one = turn()
    one.head(500, JSON)
    found = [each for _ in range(LONGEST_EVENT // (1 << 20) + 2) for each in one.data(b"x" * (1 << 20))]
    assert len(found) == 1
    [broken] = said(turn(), 200, [*SSE, ("content-encoding", "gzip")], b"no gzip")
    assert broken["status"] == 502


@given(st.lists(st.binary(max_size=80), max_size=4), st.sampled_from([200, 400]), st.booleans())
def test_no_reply_raises_and_each_ends_once(parts: list[bytes], status: int, stream_: bool) -> None:
    """Whatever an upstream sends: JSON messages, and in the end a last one."""
    found = said(turn("l"), status, SSE if stream_ else JSON, *parts)
    assert sum(each.get("type") == "error" for each in found) == 1
