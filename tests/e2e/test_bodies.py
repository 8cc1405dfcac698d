"""Request bodies as tools send them: compressed, in chunks, after asking, as forms, large; replayed and rewritten."""

from __future__ import annotations

import itertools
import json
import zlib

import pytest

from understudy.codec.content_encoding import decode_request

from .behaviours import Seen, encoder_of, json_reply
from .client import End
from .stage import CHAT, SECRETS, TOOL, Stage, refusal

pytestmark = pytest.mark.usefixtures("no_crash")

PATH = "/v1/chat/completions"
PLAIN = json.dumps({"model": "{m}", "messages": [{"role": "user", "content": "{n} " + "é" * 4000}], "n": 1}).encode()
_nonces = itertools.count(1)
ENCODINGS = ["gzip", "br", "zstd", "deflate", "identity", "gzip, zstd"]


def packed(body: bytes, encoding: str) -> bytes:
    """A body in these encodings, the last on the outside."""
    for name in encoding.split(", "):
        if name == "deflate":
            body = zlib.compress(body)
        elif name != "identity":
            encoder = encoder_of(name)
            body = encoder.encode(body) + encoder.finish()
    return body


def chunked(body: bytes, size: int = 700) -> bytes:
    """A body in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def head(*lines: str) -> bytes:
    """A request head, as it is written here."""
    fixed = [f"POST {PATH} HTTP/1.1", "Host: api.openai.com", f"Authorization: Bearer {TOOL}"]
    return "\r\n".join([*fixed, "Content-Type: application/json", *lines]).encode() + b"\r\n\r\n"


def gets(stage: Stage, plain: bytes) -> list[Seen]:
    """Who got this body, whatever its encoding, in order."""
    found = [seen for seen in stage.main.seen if decode_request(seen.body, seen.header("content-encoding")) == plain]
    return sorted(found, key=lambda seen: seen.time)


def expect(stage: Stage, alias: str) -> tuple[bytes, bytes]:
    """Let the first candidate refuse and the second answer; the plain bodies that they are to get."""
    plain = PLAIN.replace(b"{m}", alias.encode()).replace(b"{n}", b"nonce %d" % next(_nonces))
    second = plain.replace(alias.encode(), b"substitute")
    stage.main.on(lambda seen: _is(seen, plain) and seen.credential == SECRETS["a"], refusal(CHAT, alias))
    stage.main.on(lambda seen: _is(seen, second) and seen.credential == SECRETS["b"], CHAT.answers())
    return plain, second


def _is(seen: Seen, plain: bytes) -> bool:
    return decode_request(seen.body, seen.header("content-encoding")) == plain


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("framing", ["length", "chunked", "asked", "asked-chunked"])
def test_a_compressed_body(stage: Stage, encoding: str, framing: str) -> None:
    """R02: it goes on as it came while the model keeps its name, and is written plain where that changes."""
    alias = stage.alias("sub")
    plain, second = expect(stage, alias)
    body = packed(plain, encoding)
    lines = ["Transfer-Encoding: chunked" if "chunked" in framing else f"Content-Length: {len(body)}"]
    lines += [f"Content-Encoding: {encoding}"]
    wire = chunked(body) if "chunked" in framing else body
    with stage.connect(CHAT) as connection:
        if framing.startswith("asked"):
            sent = connection.send_raw(head(*lines, "Expect: 100-continue"))
            connection.pump()
            connection.send_rest(wire)
        else:
            sent = connection.send_raw(head(*lines) + wire)
        response = sent.finish()
    assert (response.status, response.json, response.end) == (200, CHAT.answer, End.CLEAN)
    (one,), (two,) = gets(stage, plain), gets(stage, second)
    assert (one.body, one.header("content-encoding")) == (body, encoding)
    assert (two.body, two.header("content-encoding")) == (second, "")
    assert [one.header("expect"), two.header("expect")] == ["", ""]
    for seen in (one, two):
        if seen.header("content-length"):
            assert seen.header("content-length") == str(len(seen.body))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_compressed_body_over_http2(stage: Stage, encoding: str) -> None:
    """R02: Codex compresses so, with its ChatGPT login."""
    alias = stage.alias("sub")
    plain, second = expect(stage, alias)
    with stage.connect(CHAT, http2=True) as connection:
        headers = [CHAT.header(TOOL), ("content-type", "application/json"), ("content-encoding", encoding)]
        assert connection.request("POST", PATH, headers, packed(plain, encoding)).json == CHAT.answer
    (one,), (two,) = gets(stage, plain), gets(stage, second)
    assert (one.body, two.body) == (packed(plain, encoding), second)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_large_form(stage: Stage, encoding: str, http2: bool) -> None:
    """R02, R09: three megabytes of audio reach both candidates to the byte; only the model's field changes."""
    alias = stage.alias("sub")
    audio = b"nonce %d" % next(_nonces) + (b"\x00\xff\r\n--edge" + bytes(range(256))) * 12_000
    form = (
        b'--edge1\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + audio + b"\r\n"
        b'--edge1\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + alias.encode() + b"\r\n--edge1--\r\n"
    )
    second = form.replace(alias.encode(), b"substitute")
    stage.main.on(lambda seen: _is(seen, form) and seen.credential == SECRETS["a"], refusal(CHAT, alias))
    stage.main.on(
        lambda seen: _is(seen, second) and seen.credential == SECRETS["b"], json_reply(200, {"text": "hello"})
    )
    headers = [CHAT.header(TOOL), ("content-type", "multipart/form-data; boundary=edge1")]
    headers += [("content-encoding", encoding)] if encoding != "identity" else []
    with stage.connect(CHAT, http2=http2) as connection:
        response = connection.request("POST", "/v1/audio/transcriptions", headers, packed(form, encoding))
    assert (response.status, response.json) == (200, {"text": "hello"})
    assert [seen.header("content-encoding") for seen in gets(stage, second)] == [""]
