"""Saved replies: an example, curl's output, a flow dump, a HAR, a bare body; and what of them is never shown."""

from __future__ import annotations

import base64
import io as bytes_io
import json
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mitmproxy import io
from mitmproxy.test import tflow, tutils

from understudy.authoring.reply_file import ReplyFileError, Saved, read_replies

SECRET = "sk-live-0123456789abcdef"
ERROR = {"error": {"message": f"no model for {SECRET}", "code": "model_not_found"}}


def only(data: bytes, **options: object) -> Saved:
    (found,) = read_replies(data, **options)  # type: ignore[arg-type]
    return found


def test_an_example() -> None:
    saved = only(json.dumps({"status": 404, "model": "m", "headers": {"retry-after": "3"}, "body": ERROR}).encode())
    assert (saved.reply.status, saved.reply.model, saved.reply.header("Retry-After")) == (404, "m", "3")
    assert saved.reply.error is not None
    assert saved.reply.error.code == "model_not_found"


@pytest.mark.parametrize("body", [b'{"error": "x"}', b"words", b'{"status": 404, "title": "Not Found"}', b"[1]"])
def test_a_bare_body(body: bytes) -> None:
    saved = only(body, status=422, model="m")
    assert (saved.reply.status, saved.reply.body, saved.reply.model) == (422, body, "m")


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize(
    "before",
    [b"", b"HTTP/1.1 200 Connection established\n\nHTTP/1.1 100 Continue\n\n", b"HTTP/2 302\nlocation: /x\n\n"],
)
def test_curl(newline: bytes, before: bytes) -> None:
    data = (before + b"HTTP/2 404 Not Found\ncontent-type: application/json\nX-Odd: a: b\n\n").replace(b"\n", newline)
    saved = only(data + b'{"error":\r\n\r\n"x"}')
    assert (saved.reply.status, saved.reply.body) == (404, b'{"error":\r\n\r\n"x"}')
    assert saved.reply.headers == (("content-type", "application/json"), ("X-Odd", "a: b"))


@pytest.mark.parametrize("body", [zlib.compress(b"words", wbits=31), b"words"], ids=["encoded", "decoded by curl"])
def test_curl_with_an_encoding(body: bytes) -> None:
    assert only(b"HTTP/1.1 500 X\r\ncontent-encoding: gzip\r\n\r\n" + body).reply.body == b"words"


def har(**response: object) -> bytes:
    request = {
        "method": "POST",
        "url": f"https://relay.example/openai/v1/chat/completions?key={SECRET}",
        "headers": [{"name": "Authorization", "value": f"Bearer {SECRET}"}],
        "postData": {"text": json.dumps({"model": "acme-1", "stream": True})},
    }
    return json.dumps({"log": {"entries": [{"request": request, "response": response}, {"odd": 1}]}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        {"text": json.dumps(ERROR)},
        {"text": base64.b64encode(json.dumps(ERROR).encode()).decode(), "encoding": "base64"},
    ],
)
def test_har(content: dict[str, str]) -> None:
    saved = only(har(status=404, headers=[{"name": "x", "value": "y"}], content=content))
    assert (saved.reply.dialect, saved.reply.model, saved.reply.streamed) == ("openai", "acme-1", True)
    assert (saved.reply.host, saved.reply.status, json.loads(saved.reply.body)) == ("relay.example", 404, ERROR)
    assert saved.where == "flow 1: POST relay.example/openai/v1/chat/completions"
    assert SECRET not in repr(saved)
    assert SECRET not in saved.masked(saved.reply.text)


def test_a_flow_dump() -> None:
    request = tutils.treq(
        host="api.anthropic.com", path=b"/v1/messages?beta=true", content=b'{"model": "claude-x"}', scheme=b"https"
    )
    request.method = "POST"
    request.headers["x-api-key"] = SECRET
    response = tutils.tresp(status_code=404, content=b'{"type": "error"}')
    output = bytes_io.BytesIO()
    writer = io.FlowWriter(output)
    writer.add(tflow.tflow(req=request, resp=response))
    writer.add(tflow.tflow(err=True))
    saved = only(output.getvalue())
    assert (saved.reply.dialect, saved.reply.endpoint, saved.reply.model) == ("anthropic", "messages", "claude-x")
    assert (saved.reply.status, saved.reply.body) == (404, b'{"type": "error"}')
    assert saved.masked(f"x {SECRET} y") == "x <understudy:client> y"
    with pytest.raises(ReplyFileError, match="cannot be read"):
        read_replies(output.getvalue()[:-20])


@pytest.mark.parametrize("data", [b"", b"  \n", b'{"log": {"entries": []}}', b"HTTP/x"])
def test_no_reply(data: bytes) -> None:
    with pytest.raises(ReplyFileError):
        read_replies(data)


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=200)
    | st.builds(lambda head, rest: head + rest, st.sampled_from([b"HTTP/1.1 404", b"12:x", b'{"log":']), st.binary())
)
def test_whatever_is_in_it_there_is_a_reply_or_an_error(data: bytes) -> None:
    try:
        found = read_replies(data)
    except ReplyFileError:
        found = []
    assert all(0 < saved.reply.status < 1000 for saved in found)
