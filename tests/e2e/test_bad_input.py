"""Bad input from tools and upstreams: passed on or refused with a clear error; no hang, no crash, no byte lost."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import brotli
import pytest

from .authority import Authority
from .behaviours import Seen, encoder_of, json_reply, raw, sse, verbatim, wrong_length
from .client import Connection, End, Response
from .conftest import Perform
from .proxy import Proxy
from .stage import APIS, CHAT, ENVIRONMENT, SECRETS, TOOL, Api, Stage, crashes, faulty_pool, refusal, whole
from .upstream import Upstream

pytestmark = pytest.mark.usefixtures("no_crash")

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
JSON = [("content-type", "application/json")]
PATH = "/v1/chat/completions"


def post(
    stage: Stage, body: bytes, headers: Sequence[tuple[str, str]] = JSON, *, http2: bool = False, path: str = PATH
) -> Response:
    """A call to an upstream by its own name, so that what has no route has somewhere to go."""
    with Connection(stage.proxy.port, stage.main.tls_url, ca=stage.proxy.ca, http2=http2) as connection:
        return connection.request("POST", path, [("authorization", f"Bearer {TOOL}"), *headers], body)


def asked(alias: str, **more: object) -> bytes:
    """The body of a call."""
    return json.dumps({"model": alias, "messages": [{"role": "user", "content": "hi"}], **more}).encode()


def is_well(stage: Stage) -> None:
    """The proxy serves the next call as if nothing had been."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": CHAT.answers()})
    assert stage.call(CHAT, alias).json == CHAT.answer


# -- requests that name nothing ------------------------------------------------------------------------------------

UNREADABLE = {
    "empty": b"",
    "cut": b'{"model": "pair-x", "messages": [',
    "binary": bytes(range(256)),
    "nul": b"\x00" * 100,
    "array": b'[{"model": "pair-x"}]',
    "text": b'"pair-x"',
    "null": b"null",
    "two-values": b'{"model": "pair-x"} {"model": "pair-y"}',
    "no-model": b'{"messages": []}',
    "model-null": b'{"model": null}',
    "model-number": b'{"model": 5}',
    "model-object": b'{"model": {"name": "pair-x"}}',
    "model-empty": b'{"model": ""}',
    "deep": b"[" * 100_000,
    "deep-model": b'{"model":' + b"[" * 100_000,
    "deep-sibling": b'{"model": "pair-x", "messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "utf-8": b'{"model": "pair-x", "messages": "\xff\xfe\xc3\x28"}',
    "utf-16": '{"model": "pair-x"}'.encode("utf-16"),
    "long-number": b'{"n": ' + b"9" * 10_000 + b', "model": 1}',
    "form": b"model=pair-x",
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@both_versions
def test_a_body_that_names_no_model_passes(stage: Stage, body: bytes, http2: bool) -> None:
    """Bad input: what names no alias reaches the host it was meant for as it is, with the tool's own credential."""
    complaint = json_reply(400, {"error": {"message": "what is this?"}}, [("x-request-id", "r-1")])
    stage.main.on(TOOL, complaint)
    before = len(stage.main.seen)
    response = post(stage, body, http2=http2)
    assert (response.status, response.end) == (400, End.CLEAN)
    assert response.json == {"error": {"message": "what is this?"}}
    assert response.header("x-request-id") == "r-1"
    (seen,) = stage.main.seen[before:]
    assert (seen.body, seen.credential) == (body, TOOL)


REQUEST_ENCODINGS = {
    "unknown": ("snappy", b"\xff\x06\x00\x00sNaPpY"),
    "not-gzip": ("gzip", b'{"model": "pair-x"}'),
    "cut-gzip": ("gzip", gzip.compress(b'{"model": "pair-x"}')[:-9]),
    "not-brotli": ("br", b'{"model": "pair-x"}'),
    "not-zstd": ("zstd", b'{"model": "pair-x"}'),
    "half-known": ("gzip, snappy", gzip.compress(b'{"model": "pair-x"}')),
    "wrong-order": ("br, gzip", brotli.compress(gzip.compress(b'{"model": "pair-x"}'))),
    "four-times": ("identity, identity, identity, gzip", gzip.compress(b'{"model": "pair-x"}')),
}


@pytest.mark.parametrize(("encoding", "body"), REQUEST_ENCODINGS.values(), ids=REQUEST_ENCODINGS)
@both_versions
def test_a_body_that_cannot_be_decoded_passes(stage: Stage, encoding: str, body: bytes, http2: bool) -> None:
    """Bad input: an unknown or wrong content-encoding of a request is the upstream's to complain about."""
    stage.main.on(TOOL, json_reply(415, {"error": {"message": "unsupported"}}))
    before = len(stage.main.seen)
    assert post(stage, body, [*JSON, ("content-encoding", encoding)], http2=http2).status == 415
    (seen,) = stage.main.seen[before:]
    assert (seen.body, seen.credential, seen.header("content-encoding")) == (body, TOOL, encoding)


# -- requests that are odd -----------------------------------------------------------------------------------------


@both_versions
def test_duplicate_model_keys(stage: Stage, http2: bool) -> None:
    """Bad input, R01: the last one counts, as in the vendors' parsers; all are rewritten, nothing else changes."""
    alias = stage.alias("sub")
    body = b'{"model" : "first",\n"n": 1.0, "n": 1.00, "model": "%s", "\\u006dodel": "%s"}' % ((alias.encode(),) * 2)
    stage.main.on(_body_is(body), refusal(CHAT, alias))
    rewritten = body.replace(b'"first"', b'"substitute"').replace(b'"%s"' % alias.encode(), b'"substitute"')
    stage.main.on(_body_is(rewritten), CHAT.answers())
    assert stage.call(CHAT, alias, body=body, http2=http2).json == CHAT.answer
    last = [seen for seen in stage.main.seen if seen.body in (body, rewritten)][-2:]
    assert [seen.credential for seen in last] == [SECRETS["a"], SECRETS["b"]]


def _body_is(body: bytes, who: str = "") -> Callable[[Seen], bool]:
    return lambda seen: seen.body == body and (not who or seen.credential == SECRETS[who])


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@both_versions
def test_a_long_model_name(stage: Stage, api: Api, http2: bool) -> None:
    """Bad input: a model name of 10 KiB is served like any other, and does not fill the log."""
    alias = stage.alias() + "-" + "m" * 10240
    refused = json_reply(
        404, {"error": {"code": "model_not_found", "message": "There is no such model", "param": "model"}}
    )
    stage.play(alias, {api.first: refused if api is CHAT else api.answers(), api.second: api.answers()})
    for _ in range(2):
        assert stage.call(api, alias, http2=http2).json == api.answer
    assert stage.order(alias) == [api.first, api.second, api.second] if api is CHAT else [api.first] * 2
    about = [line for line in stage.proxy.log_text().splitlines() if alias[:40] in line]
    assert bool(about) is (api is CHAT)
    assert all(len(line) < 1000 for line in about)


ODD_NAMES = {
    "surrogate": "pair-\ud800{n}",
    "newline": "pair-{n}\n[error] forged\r\nline",
    "escape": "pair-{n}\x1b[31mred",
    "nul": "pair-{n}\x00",
    "emoji": "pair-{n}-🎭",
    "quote": 'pair-{n}"}}',
    "glob": "pair-{n}*[",
    "right-to-left": "pair-{n}\u202e",
}


@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
@both_versions
@both_forms
def test_an_odd_model_name(stage: Stage, name: str, http2: bool, stream: bool) -> None:
    """Bad input: whatever characters a model name has, the call is served, and the log stays one line per fact."""
    alias, before = name.replace("{n}", stage.alias("odd")), len(stage.proxy.log_text())
    body = asked(alias, stream=stream)
    refused = {"error": {"message": f"The model `{alias}` does not exist", "code": "model_not_found"}}
    stage.main.on(_body_is(body, "a"), json_reply(404, refused))
    stage.main.on(_body_is(body, "b"), CHAT.streams() if stream else CHAT.answers())
    for _ in range(2):
        assert stage.call(CHAT, alias, body=body, http2=http2).status == 200
    assert [seen.credential for seen in stage.main.seen if seen.body == body] == [SECRETS[who] for who in "abb"]
    log = stage.proxy.log_text()[before:]
    assert "\n[error] forged" not in log
    assert "\x1b[31m" not in log


@both_versions
def test_a_thousand_headers(stage: Stage, http2: bool) -> None:
    """Bad input: a thousand request headers arrive, also at the second candidate, and a thousand come back."""
    alias = stage.alias("pair")
    flood = [(f"x-{n}", str(n)) for n in range(1000)]
    stage.play(alias, {"a": refusal(CHAT, alias), "b": json_reply(200, CHAT.answer, flood)})
    response = stage.call(CHAT, alias, headers=flood, http2=http2)
    assert response.json == CHAT.answer
    assert [header for header in response.headers if header[0].startswith("x-")] == flood
    for seen in stage.seen(alias):
        assert [header for header in seen.headers if header[0].startswith("x-")] == flood


@both_versions
def test_a_thousand_headers_on_a_refusal(stage: Stage, http2: bool) -> None:
    """Bad input: the headers of a refusal are as many as they like."""
    alias = stage.alias("pair")
    flood = [(f"x-{n}", str(n)) for n in range(1000)]
    refused = raw(404, [*JSON, *flood], json.dumps({"error": {"code": "model_not_found", "message": alias}}).encode())
    stage.play(alias, {"a": refused, "b": CHAT.answers()})
    assert stage.call(CHAT, alias, http2=http2).json == CHAT.answer


@pytest.mark.parametrize(
    ("size", "settings", "http2"),
    [
        (50, {}, False),
        (3, {}, True),
        (3, {"stream_large_bodies": "1m"}, False),
        (3, {"stream_large_bodies": "1m"}, True),
    ],
)
def test_r09_large_bodies_are_rewritten(perform: Perform, size: int, settings: dict[str, str], http2: bool) -> None:
    """R09: a large body arrives whole at the first candidate, and with another model name at the second."""
    stage = perform(routes="  sub-*: [a, {credential: b, model: substitute}]", settings=settings)
    alias = stage.alias("sub")
    body = b'{"messages": "%s", "model": "%s"}' % (b"x" * (size << 20), alias.encode())
    stage.main.on(SECRETS["a"], refusal(CHAT, alias))
    stage.main.on(SECRETS["b"], CHAT.answers())
    assert stage.call(CHAT, alias, body=body, http2=http2).json == CHAT.answer
    first, second = stage.main.seen
    assert first.body == body
    assert second.body == body.replace(alias.encode(), b"substitute")


def test_r09_large_replies_arrive_whole(perform: Perform) -> None:
    """R09: with stream_large_bodies set, replies over it arrive whole, of a replayed call as well."""
    stage = perform(routes="  default: [a, b]", settings={"stream_large_bodies": "1m"})
    large = {**CHAT.answer, "padding": "y" * (3 << 20)}  # type: ignore[dict-item]
    for stream in (False, True):
        alias = stage.alias()
        answer = sse(b"data: " + json.dumps(large).encode() + b"\n\n") if stream else json_reply(200, large)
        stage.play(alias, {"a": refusal(CHAT, alias), "b": answer})
        response = stage.call(CHAT, alias, stream=stream)
        assert (response.status, response.end) == (200, End.CLEAN)
        assert json.loads(response.body.removeprefix(b"data: ")) == large


def raw_head(*lines: bytes) -> bytes:
    """A request head, as it is written here."""
    head = [b"POST /v1/chat/completions HTTP/1.1", b"Host: api.openai.com", b"Authorization: Bearer " + TOOL.encode()]
    return b"\r\n".join([*head, b"Content-Type: application/json", *lines]) + b"\r\n\r\n"


def chunked(body: bytes, size: int = 7) -> bytes:
    """A body in chunks."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("prefix", ["pair", "sub"])
def test_chunked_requests(stage: Stage, prefix: str) -> None:
    """Bad input: a request body in chunks is replayed and rewritten like any other."""
    alias = stage.alias(prefix)
    model = "substitute" if prefix == "sub" else alias
    body = asked(alias, nonce=alias)
    stage.play(alias, {"a": refusal(CHAT, alias)})
    stage.play(model, {"b": CHAT.answers()})
    with stage.connect(CHAT) as connection:
        sent = connection.send_raw(raw_head(b"Transfer-Encoding: chunked") + chunked(body))
        assert sent.finish().json == CHAT.answer
    bodies = [seen.body for seen in stage.main.seen if alias.encode() in seen.body]
    assert bodies == [body, body.replace(b'"model": "%s"' % alias.encode(), b'"model": "%s"' % model.encode())]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_expect_100_continue(stage: Stage, framing: str) -> None:
    """Bad input: a tool that asks first is told to go on, and gets its answer, of the second candidate too."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    body = asked(alias)
    length = b"Content-Length: %d" % len(body) if framing == "length" else b"Transfer-Encoding: chunked"
    with stage.connect(CHAT) as connection:
        sent = connection.send_raw(raw_head(length, b"Expect: 100-continue"))
        connection.pump()
        connection.send_rest(body if framing == "length" else chunked(body))
        assert sent.finish().json == CHAT.answer
    assert stage.order(alias) == ["a", "b"]
    assert [seen.header("expect") for seen in stage.seen(alias)] == ["", ""]


MALFORMED = {
    "two-lengths": raw_head(b"Content-Length: 5", b"Content-Length: 6") + b"hello",
    "negative-length": raw_head(b"Content-Length: -1") + b"hello",
    "no-number": raw_head(b"Content-Length: five") + b"hello",
    "length-and-chunked": raw_head(b"Content-Length: 5", b"Transfer-Encoding: chunked") + chunked(b"hello"),
    "bad-chunk": raw_head(b"Transfer-Encoding: chunked") + b"zz\r\nhello\r\n0\r\n\r\n",
    "unknown-coding": raw_head(b"Transfer-Encoding: snappy") + b"hello",
    "no-colon": raw_head(b"Content-Length 5") + b"hello",
    "bad-name": raw_head(b"x y: 5", b"Content-Length: 5") + b"hello",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests_are_refused(stage: Stage, data: bytes) -> None:
    """Bad input: what is no HTTP is refused or cut off at once, and nobody upstream sees it."""
    before = len(stage.main.seen)
    with stage.connect(CHAT) as connection:
        sent = connection.send_raw(data)
        try:
            assert sent.finish().status == 400
        except ConnectionError:
            assert sent.end is End.CUT
    assert len(stage.main.seen) == before
    is_well(stage)


@pytest.mark.parametrize(
    "head", [b"x-more: 1\r\n" * 2001 + b"\r\n", b"x-long: " + b"a" * 300_000], ids=["fields", "bytes"]
)
def test_h02_a_head_without_bounds_is_refused(stage: Stage, head: bytes) -> None:
    """H02: too many header fields, or a head that does not end, are answered with 431, and sent to nobody."""
    before = len(stage.main.seen)
    with stage.connect(CHAT) as connection:
        refused = connection.send_raw(raw_head().removesuffix(b"\r\n") + head).finish()
    assert refused.status == 431
    assert b"more than 2000 header fields" in refused.body
    assert len(stage.main.seen) == before
    is_well(stage)


def test_odd_bytes_in_request_headers(stage: Stage) -> None:
    """Bad input: header values that are no UTF-8 arrive as they were sent."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    body = asked(alias)
    head = raw_head(b"x-odd: a\xff\xfe\xc3\x28z", b"Content-Length: %d" % len(body))
    with stage.connect(CHAT) as connection:
        assert connection.send_raw(head + body).finish().json == CHAT.answer
    assert [seen.header("x-odd").encode("latin-1") for seen in stage.seen(alias)] == [b"a\xff\xfe\xc3\x28z"] * 2


def test_a_tool_that_never_ends_its_request(stage: Stage) -> None:
    """Bad input: a request that is broken off in its body is sent to nobody."""
    alias = stage.alias("pair")
    body = asked(alias)
    before = len(stage.main.seen)
    with stage.connect(CHAT) as connection:
        connection.send_raw(raw_head(b"Content-Length: %d" % (len(body) + 1)) + body)
    is_well(stage)
    assert [seen for seen in stage.main.seen[before:] if alias.encode() in seen.body] == []


# -- replies that are odd ------------------------------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize("far", [False, True], ids=["to-h2", "to-h1"])
def test_a_reply_that_is_shorter_than_it_says(stage: Stage, http2: bool, status: int, far: bool) -> None:
    """Bad input, A08: a plain reply that is cut is a fault: once more on a new connection, and then B answers."""
    alias, first, second = (stage.alias("h1"), "x", "x2") if far else (stage.alias("pair"), "a", "b")
    stage.play(alias, {first: wrong_length(status, b'{"id": 1, ', 1000, JSON), second: CHAT.answers()})
    response = stage.call(CHAT, alias, http2=http2)
    assert (response.status, response.json) == (200, CHAT.answer)
    assert stage.order(alias) == [first, first, second]


@pytest.mark.parametrize("status", [200, 404])
def test_a_reply_that_is_longer_than_it_says(stage: Stage, status: int) -> None:
    """Bad input: over HTTP/1.1 what comes after the stated length belongs to nobody, and disturbs nobody."""
    alias = stage.alias("only")
    body = json.dumps({"choices": [{"text": alias}]}).encode()
    stage.play(alias, {"x": wrong_length(status, body + b"HTTP/1.1 200 OK\r\n\r\nmore", len(body), JSON)})
    with stage.connect(CHAT) as connection:
        for _ in range(3):
            response = stage.send(connection, CHAT, alias).finish()
            assert (response.status, response.body) == (status, body)
    assert stage.order(alias) == ["x"] * 3


def test_a_reply_that_is_longer_than_it_says_on_http2(perform: Perform) -> None:
    """Bad input: HTTP/2 calls that a protocol error, so another upstream answers."""
    stage = perform()
    alias = stage.alias("far")
    stage.play(alias, {"a": wrong_length(200, b'{"id": 1, "more": 2}', 5, JSON), "x": CHAT.answers()})
    assert stage.call(CHAT, alias, http2=True).json == CHAT.answer
    assert stage.order(alias) == ["a", "a", "x"]


CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
BROKEN_REPLIES = {
    "no-http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "status-0": b"HTTP/1.1 0 Nothing\r\ncontent-length: 0\r\n\r\n",
    "status-text": b"HTTP/1.1 abc OK\r\ncontent-length: 0\r\n\r\n",
    "no-colon": b"HTTP/1.1 200 OK\r\nthis is no header\r\n\r\n{}",
    "bad-name": b"HTTP/1.1 200 OK\r\nx y: 1\r\ncontent-length: 2\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
    "negative-length": b"HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\n{}",
    "length-and-chunked": CHUNKED[:-2] + b"content-length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "bad-chunk": CHUNKED + b"zz\r\n{}\r\n",
    "cut-chunk": CHUNKED + b"ff\r\n{}\r\n",
    "cut-head": b"HTTP/1.1 200 OK\r\ncontent-type: applic",
    "early-hints-only": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority) -> Iterator[Stage]:
    """A stage with an upstream of its own for each broken reply, as one that breaks off is suspended."""
    with Upstream(authority, alpn=["http/1.1"]) as main, Upstream(authority) as other:
        pool = faulty_pool({f"{name}-{http}": main.tls_url for name in BROKEN_REPLIES for http in ("h1", "h2")}, other)
        options = {"trusted": authority.path, "env": ENVIRONMENT, "pool_yaml": pool}
        with Proxy(tmp_path_factory.mktemp("faulty"), confdir, **options) as proxy:  # type: ignore[arg-type]
            yield Stage(proxy, main, other)
            assert not crashes(proxy)


@pytest.mark.parametrize("name", BROKEN_REPLIES)
@both_versions
def test_broken_replies(faulty: Stage, name: str, http2: bool) -> None:
    """Bad input, A08: what is no HTTP reply is a fault of the transport: once more, and then B on another upstream."""
    alias = f"{name}-{'h2' if http2 else 'h1'}"
    faulty.play(alias, {"a": verbatim(BROKEN_REPLIES[name]), "x": CHAT.answers()})
    assert faulty.call(CHAT, alias, http2=http2).json == CHAT.answer
    assert faulty.order(alias) == ["a", "a", "x"]


GOOD = json.dumps(CHAT.answer).encode()
ODD_REPLIES = {
    "http-1.0": b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n" + GOOD,
    "until-close": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + GOOD,
    "no-reason": b"HTTP/1.1 200\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD,
    "no-type": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD,
    "lf-only": b"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: %d\n\n" % len(GOOD) + GOOD,
    "trailers": CHUNKED + b"%x\r\n%b\r\n0\r\nx-sum: 1\r\n\r\n" % (len(GOOD), GOOD),
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    + b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(GOOD)
    + GOOD,
    "long-head": b"HTTP/1.1 200 OK\r\nx-long: " + b"y" * 50_000 + b"\r\ncontent-length: %d\r\n\r\n" % len(GOOD) + GOOD,
}


@pytest.mark.parametrize("reply", ODD_REPLIES.values(), ids=ODD_REPLIES)
@both_versions
@both_forms
def test_odd_replies(stage: Stage, reply: bytes, http2: bool, stream: bool) -> None:
    """Bad input: what can be understood reaches the tool."""
    alias = stage.alias("h1")
    stage.play(alias, {"x": verbatim(reply), "x2": CHAT.answers()})
    response = stage.call(CHAT, alias, http2=http2, stream=stream)
    assert (response.status, response.end, response.body) == (200, End.CLEAN, GOOD)


@pytest.mark.parametrize("status", [204, 205, 304, 300])
@both_versions
@both_forms
def test_statuses_without_an_answer(stage: Stage, status: int, http2: bool, stream: bool) -> None:
    """A01, A03: a success without a body and a redirect are no answers: B's is the tool's."""
    alias = stage.alias("pair")
    body = b"odd" if status == 300 else b""
    stage.play(alias, {"a": raw(status, [("x-odd", "1")] if body else [], body), "b": whole(CHAT, stream=stream)})
    response = stage.call(CHAT, alias, http2=http2, stream=stream)
    assert (response.status, response.end) == (200, End.CLEAN)
    assert stage.order(alias) == ["a", "b"]


@pytest.mark.parametrize("status", [418, 451, 599, 799])
@both_versions
@both_forms
def test_odd_statuses(stage: Stage, status: int, http2: bool, stream: bool) -> None:
    """Bad input, law 9: a status that nothing is known about is released at once and suspends nothing."""
    alias = stage.alias("sure")
    body = b"odd"
    stage.play(alias, {"a": raw(status, [("x-odd", "1")], body), "b": CHAT.answers()})
    for _ in range(2):
        response = stage.call(CHAT, alias, http2=http2, stream=stream)
        if status < 500:
            assert (response.status, response.body, response.end) == (status, body, End.CLEAN)
    if status < 500:
        assert stage.order(alias) == ["a", "a"]


NO_TEXT = b'{"choices": [{"text": "\xff\xfe\xc3\x28"}], "n": 1}'


@both_versions
@pytest.mark.parametrize("status", [200, 400])
def test_a_reply_that_is_no_utf8(stage: Stage, http2: bool, status: int) -> None:
    """Bad input: bytes that are no UTF-8, in body and headers, reach the tool as they are."""
    alias = stage.alias("only")
    stage.play(alias, {"x": raw(status, [*JSON, ("x-odd", "a\xff\xfe\xc3\x28z")], NO_TEXT)})
    response = stage.call(CHAT, alias, http2=http2)
    assert (response.status, response.body) == (status, NO_TEXT)
    assert response.header("x-odd").encode("latin-1") == b"a\xff\xfe\xc3\x28z"
    assert stage.order(alias) == ["x"]


@both_versions
def test_a_refusal_that_is_no_utf8(stage: Stage, http2: bool) -> None:
    """Bad input: a refusal is recognised although its message has bytes that are no UTF-8."""
    alias = stage.alias("pair")
    body = b'{"error": {"code": "model_not_found", "message": "\xff\xfe no model `%s`"}}' % alias.encode()
    stage.play(alias, {"a": raw(404, JSON, body), "b": CHAT.answers()})
    assert stage.call(CHAT, alias, http2=http2).json == CHAT.answer
    assert stage.order(alias) == ["a", "b"]


@both_versions
@both_forms
@pytest.mark.parametrize("encoding", ["snappy", "gzip, br", "gzip"], ids=["unknown", "twice", "wrong"])
def test_a_reply_in_an_unknown_encoding(stage: Stage, http2: bool, stream: bool, encoding: str) -> None:
    """Bad input: what cannot be decoded is judged by its status alone, and released as it came."""
    good, bad, limited = (stage.alias(prefix) for prefix in ("pair", "sure", "pair"))
    headers = [("content-type", "text/event-stream" if stream else "application/json"), ("content-encoding", encoding)]
    body = b"\xff\x06\x00\x00sNaPpY, whatever it is"
    stage.play(good, {"a": raw(200, headers, body)})
    stage.play(bad, {"a": raw(400, headers, body)})
    stage.play(limited, {"a": raw(429, headers, body), "b": CHAT.streams() if stream else CHAT.answers()})
    for alias, status in ((good, 200), (bad, 400)):
        response = stage.call(CHAT, alias, http2=http2, stream=stream)
        assert (response.status, response.body, response.end) == (status, body, End.CLEAN)
        assert response.header("content-encoding") == encoding
        assert stage.order(alias) == ["a"]
    assert stage.call(CHAT, limited, http2=http2, stream=stream).status == 200
    assert stage.order(limited) == ["a", "b"]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_bomb_is_not_unpacked(stage: Stage, encoding: str) -> None:
    """Bad input, law 10: a few kilobytes that stand for 50 MiB are released as they came."""
    alias = stage.alias("pair")
    encoder = encoder_of(encoding)
    body = b"".join(encoder.encode(b" " * (1 << 20)) for _ in range(50)) + encoder.finish()
    stage.play(alias, {"a": raw(400, [*JSON, ("content-encoding", encoding)], body)})
    response = stage.call(CHAT, alias)
    assert (response.status, response.body) == (400, body)
    assert stage.order(alias) == ["a"]
