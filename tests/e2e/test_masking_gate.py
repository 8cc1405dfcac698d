"""An upstream that repeats the secret in every way that got past a mask once, and what is written down of it (H03)."""

from __future__ import annotations

import gzip
import html
import json
from functools import partial
from pathlib import Path

import brotli
import pytest

from .behaviours import Behaviour, Seen, chunks, encoded, json_reply, raw, sse, verbatim
from .client import Response, request
from .proxy import StartProxy
from .stage import CHAT, ENVIRONMENT, SECRETS, TOOL, Stage, data, pool_yaml
from .test_secrets import recorded
from .upstream import Upstream

SECRET = SECRETS["a"]
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in SECRET)
ENTITIES = "".join(f"&#{ord(char)};" for char in SECRET)
NESTED = html.escape(ENTITIES)
SPELLINGS = (SECRET, SECRET.upper(), ESCAPED, ENTITIES, NESTED, SECRET.encode().hex())
JSON = ("content-type", "application/json")
TEXT = f"bad request with {SECRET}"
ECHO = {"error": {"message": TEXT, "type": "invalid_request_error", "param": None}}
BODY = json.dumps(ECHO).encode()
PLAIN = b'{"error": {"message": "no", "type": "invalid_request_error", "param": null}}'
UTF_16 = [("content-type", "application/json; charset=utf-16")]


def head(status: str, *fields: str, body: bytes = PLAIN) -> Behaviour:
    """A reply with this very status line and these header lines."""
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *fields]
    return verbatim("\r\n".join([*lines, "", ""]).encode() + body)


ECHOES: dict[str, Behaviour] = {
    "reason phrase": head(f"400 bad key {SECRET}"),
    "header name": head("400 Bad Request", f"x-{SECRET}: 1"),
    "header value": head("400 Bad Request", f"x-key: {SECRET}"),
    "json escapes": raw(400, [JSON], PLAIN.replace(b"no", ESCAPED.encode())),
    "html entities": raw(400, [("content-type", "text/html")], f"<h1>bad key</h1><p>{ENTITIES}</p>".encode()),
    "entities in json": raw(400, [JSON], PLAIN.replace(b"no", f"&lt;p&gt;{NESTED}".encode())),
    "utf-16": raw(400, UTF_16, json.dumps(ECHO).encode("utf-16")),
    "hex": raw(400, [JSON], PLAIN.replace(b"no", SECRET.encode().hex().encode())),
    "unknown encoding": raw(400, [JSON, ("content-encoding", "odd")], BODY),
    "wrong encoding": raw(400, [JSON, ("content-encoding", "gzip")], BODY),
    "wrong encoding, compressed": raw(400, [JSON, ("content-encoding", "br")], gzip.compress(BODY)),
    "compressed and not called so": raw(400, [JSON], gzip.compress(BODY)),
    "double encoding": raw(400, [JSON, ("content-encoding", "gzip, gzip")], gzip.compress(gzip.compress(BODY))),
    "behind gzip": raw(400, [JSON, ("content-encoding", "gzip")], gzip.compress(PLAIN) + SECRET.encode()),
    "behind br": raw(400, [JSON, ("content-encoding", "br")], brotli.compress(PLAIN) + SECRET.encode()),
    "beyond 1 MiB": raw(400, [JSON], json.dumps({"pad": "x" * 1_100_000, **ECHO}).encode()),
    "split at 1 MiB": raw(400, [JSON], b'"' + b"x" * ((1 << 20) - 8) + SECRET.encode() + b'"'),
    "200 html": raw(200, [("content-type", "text/html")], f"<p>{SECRET}</p>".encode()),
    "200 text": raw(200, [("content-type", "text/plain")], SECRET.encode()),
    "200 gzip text": encoded(200, TEXT, "gzip", [("content-type", "text/plain")]),
    "200 without a type": raw(200, [], SECRET.encode()),
    "live stream": sse(*CHAT.events[:2], data({"echo": TEXT}), data({"echo": SECRET}), *CHAT.events[2:]),
    "split in a live stream": chunks(
        200,
        [("content-type", "text/event-stream")],
        *CHAT.events[:2],
        b'data: {"echo": "' + SECRET[:9].encode(),
        SECRET[9:].encode() + b'"}\n\n',
        *CHAT.events[2:],
    ),
    "cut by a protocol error": verbatim(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        b"%x\r\n%s\r\n" % (len(CHAT.events[1]), CHAT.events[1]),
        SECRET.encode() + b"\r\n",
    ),
    "protocol error": verbatim(f"HTTP/1.1 {SECRET}\r\n\r\n".encode()),
    "late data": verbatim(
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(PLAIN)
        + PLAIN,
        b"HTTP/1.1 200 OK\r\nx-late: " + SECRET.encode() + b"\r\n\r\n",
    ),
    "rejected": json_reply(401, {"error": {"message": f"wrong {NESTED} {SECRET}", "code": "invalid_api_key"}}),
}


def shown(response: Response) -> str:
    """All that the tool got."""
    return f"{response.headers}{response.body.replace(bytes(1), b'').decode('latin-1')}{decoded(response)}"


def decoded(response: Response) -> str:
    """The body as a tool reads it, where it can."""
    try:
        return gzip.decompress(response.body).decode("latin-1")
    except (OSError, EOFError):
        return ""


def names(alias: bytes, seen: Seen) -> bool:
    """Whether a request asks for this alias."""
    return alias in seen.body


def repeats(text: str) -> list[str]:
    """The spellings of the secret that a text holds."""
    return [spelling for spelling in SPELLINGS if spelling in text]


@pytest.mark.parametrize("kept", ["store_streamed_bodies", "pool_keep_streams"])
def test_h03_every_echo_is_masked_for_the_tool_and_in_every_record(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path, kept: str
) -> None:
    """H03, R06, R07: no spelling of the secret is in what the tool gets, nor in flow, HAR, journal, log or metrics."""
    settings = {"store_streamed_bodies": "true" if kept == "store_streamed_bodies" else "false"}
    if kept == "pool_keep_streams":
        settings |= {"pool_keep_streams": "4000000"}
    run = recorded(
        mitmdump, tmp_path, env=ENVIRONMENT, pool_yaml=pool_yaml(upstream, other_upstream), settings=settings
    )
    stage = Stage(run.proxy, upstream, other_upstream)
    got: dict[str, list[str]] = {}
    for name, echo in ECHOES.items():
        alias = stage.alias("solo")
        stage.play(alias, {"a": echo})
        for stream in (False, True):
            response = stage.call(CHAT, alias, stream=stream, anew=True)
            got[f"{name}, {stream}"] = repeats(shown(response))
            assert stage.order(alias), name
            assert response.body or name == "protocol error" or response.status >= 500, name
    assert {name: found for name, found in got.items() if found} == {}
    records = run.records()
    assert "<understudy:a>" in records["flows"]
    assert {place: found for place, text in records.items() if (found := repeats(text))} == {}
    assert {place: found for place, text in records.items() if (found := repeats(text.replace("\\x00", "")))} == {}


@pytest.mark.parametrize("mode", ["observe", "advise"])
def test_h03_the_tools_own_credential_is_in_no_record_where_calls_are_observed(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path, mode: str
) -> None:
    """H03, R07: the upstream's reply reaches the tool as it is; every record shows the placeholder."""
    pool = pool_yaml(upstream, other_upstream, f"  looks-*: {{candidates: [a, b], mode: {mode}}}")
    settings = {"store_streamed_bodies": "false", "pool_keep_streams": "4000000"}
    run = recorded(mitmdump, tmp_path, env=ENVIRONMENT, pool_yaml=pool, settings=settings)
    own = TOOL.encode()
    escaped = "".join(f"\\u{ord(char):04x}" for char in TOOL)
    echoes: dict[str, Behaviour] = {
        "reason": head(f"400 bad key {TOOL}"),
        "name": head("400 Bad Request", f"x-{TOOL}: 1"),
        "double": raw(400, [JSON, ("content-encoding", "gzip, gzip")], gzip.compress(gzip.compress(own))),
        "unknown": raw(400, [JSON, ("content-encoding", "odd")], own),
        "behind": raw(400, [JSON, ("content-encoding", "gzip")], gzip.compress(PLAIN) + own),
        "escapes": raw(400, [JSON], PLAIN.replace(b"no", escaped.encode())),
        "stream": sse(*CHAT.events[:2], data({"echo": TOOL}), *CHAT.events[2:]),
        "late": verbatim(b"HTTP/1.1 400 No\r\ncontent-length: 2\r\n\r\n{}", b"HTTP/1.1 200 " + own + b"\r\n\r\n"),
        "error": verbatim(b"HTTP/1.1 " + own + b"\r\n\r\n"),
    }
    stage = Stage(run.proxy, upstream, other_upstream)
    for name, echo in echoes.items():
        alias = stage.alias("looks")
        upstream.on(partial(names, alias.encode()), echo)
        for stream in (False, True):
            path, body = CHAT.ask(alias, stream)
            response = request(
                run.proxy.port,
                f"{upstream.tls_url}{path}",
                headers=[CHAT.header(TOOL)],
                body=json.dumps(body).encode(),
                ca=run.proxy.ca,
            )
            if name in ("stream", "unknown", "behind"):
                assert own in response.body, name
    records = run.records()
    assert {place: text[text.find(TOOL) - 200 :][:300] for place, text in records.items() if TOOL in text} == {}
    assert [place for place, text in records.items() if escaped in text] == []


def test_h07_a_secret_header_is_on_the_wire_and_in_no_record(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """H07: the upstream gets it; flows show the placeholder, and so does a reply that repeats it."""
    extra = "sk-of-the-gateway-0123456789"
    plain = pool_yaml(upstream, other_upstream)
    pool = plain.replace("{openai-organization: org-a}", "{openai-organization: org-a, x-gateway: {env: GATEWAY}}")
    assert pool != plain
    run = recorded(mitmdump, tmp_path, env={**ENVIRONMENT, "GATEWAY": extra}, pool_yaml=pool)
    stage = Stage(run.proxy, upstream, other_upstream)
    alias = stage.alias("pair")
    said = {"error": {"message": f"wrong {extra}", "type": "invalid_request_error"}}
    stage.play(alias, {"a": json_reply(529, said, [("x-received", extra)]), "b": CHAT.answers()})
    assert stage.call(CHAT, alias).status == 200
    assert {(seen.credential, seen.header("x-gateway")) for seen in stage.seen(alias)} == {
        (SECRETS["a"], extra),
        (SECRETS["b"], ""),
    }
    alone = stage.alias("solo")
    stage.play(alone, {"a": json_reply(400, said, [("x-received", extra)])})
    response = stage.call(CHAT, alone)
    assert extra not in shown(response)
    assert b"<understudy:a>" in response.body
    assert run.leaks({"gateway": extra}) == []
