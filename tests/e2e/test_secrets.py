"""No secret anywhere but on the wire to its own upstream, and nothing of the tool's own there: promises R01 to R10."""

from __future__ import annotations

import base64
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from mitmproxy import contentviews, http

from understudy.inspection.content_view import UnderstudyView

from .authority import Authority
from .behaviours import Seen, echo_credential, encoded, json_reply, raw, redirect, silent, sse
from .client import Connection, End, Response, Via, request
from .proxy import Proxy, StartProxy
from .stage import (
    APIS,
    CHAT,
    ENVIRONMENT,
    GEMINI,
    HOSTS,
    MESSAGES,
    ROUTES,
    SECRETS,
    TOOL,
    Api,
    Stage,
    data,
    pool_yaml,
    refusal,
)
from .upstream import Upstream

IDENTITY = [
    ("openai-organization", "org-of-the-tool"),
    ("openai-project", "proj-of-the-tool"),
    ("chatgpt-account-id", "account-of-the-tool"),
    ("x-goog-user-project", "project-of-the-tool"),
]
"""Headers that belong to whoever the tool is logged in as."""
FORMS: dict[str, tuple[str, str]] = {
    "bearer": ("authorization", f"Bearer {TOOL}"),
    "basic": ("authorization", f"Basic {base64.b64encode(f'user:{TOOL}'.encode()).decode()}"),
    "bare": ("Authorization", TOOL),
    "x-api-key": ("X-Api-Key", TOOL),
    "api-key": ("api-key", TOOL),
    "x-goog-api-key": ("x-goog-api-key", TOOL),
    "cookie": ("cookie", f"session={TOOL}; theme=dark"),
    "proxy": ("proxy-authorization", f"Bearer {TOOL}"),
}


def ask(stage: Stage, api: Api, alias: str, headers: Sequence[tuple[str, str]], query: str = "") -> Response:
    """A call with these headers and no others."""
    path, body = api.ask(alias, False)
    with stage.connect(api) as tool:
        content_type = ("content-type", "application/json")
        return tool.request("POST", path + query, [content_type, *headers], json.dumps(body).encode())


def on_the_wire(seen: Seen) -> str:
    """Everything that an upstream received."""
    return f"{seen.path}\n{seen.headers}\n{seen.body!r}"


def spellings(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, percent-encoded, and in base64 at any alignment."""
    found = {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
    for offset in range(3):
        padded = base64.b64encode(b"-" * offset + secret.encode()).decode().rstrip("=")
        # Without the characters at either end that depend on what stands around the secret.
        found |= {spelled[4:-2] for spelled in (padded, padded.replace("+", "-").replace("/", "_"))}
    return found


def leaks(text: str | bytes, secrets: Mapping[str, str]) -> list[str]:
    """The names of the secrets that occur in a text, in any spelling."""
    if isinstance(text, bytes):
        text = text.decode("latin-1")
    return [name for name, secret in secrets.items() if any(spelled in text for spelled in spellings(secret))]


# -- the credential of the tool --------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", APIS.values(), ids=APIS)
@pytest.mark.parametrize("form", FORMS)
def test_r03_every_form_of_the_tools_credential_leaves(stage: Stage, api: Api, form: str) -> None:
    """R03, R05: whatever the tool logs in with is replaced by the candidate's, and never reaches an upstream."""
    alias = stage.alias()
    stage.play(alias, {api.first: refusal(api, alias), api.second: api.answers()})
    assert ask(stage, api, alias, [FORMS[form], *IDENTITY]).status == 200
    assert stage.order(alias) == [api.first, api.second]
    for seen in stage.seen(alias):
        assert leaks(on_the_wire(seen), {"tool": TOOL}) == []
        assert "placeholder" not in on_the_wire(seen)
        assert "understudy" not in on_the_wire(seen)
        # Of identities that the dialect does not know, nothing is known.
        own = [value for name, value in IDENTITY if name.startswith(api.dialect)]
        assert not [value for value in own if value in on_the_wire(seen)]


def test_r03_all_forms_at_once(stage: Stage) -> None:
    """R03: all at once, with the key in the query too; the candidate's own headers are there instead."""
    alias = stage.alias()
    stage.play(alias, {"gemini-a": GEMINI.answers(), "a": CHAT.answers()})
    forms = [FORMS[name] for name in ("bearer", "x-api-key", "api-key", "x-goog-api-key", "cookie")]
    query = f"?key={TOOL}&$key={TOOL}&alt=json&access_token={quote(TOOL)}&userProject=p"
    assert ask(stage, GEMINI, alias, [*forms, *IDENTITY], query).status == 200
    assert ask(stage, CHAT, alias, [*forms, *IDENTITY]).status == 200
    gemini, openai = stage.seen(alias)
    assert gemini.path == f"/v1beta/models/{alias}:generateContent?alt=json"
    assert gemini.header("x-goog-api-key") == SECRETS["gemini-a"]
    assert gemini.header("x-goog-user-project") == ""
    assert openai.header("openai-organization") == "org-a"
    assert openai.header("openai-project") == ""
    for seen in (gemini, openai):
        assert leaks(on_the_wire(seen), {"tool": TOOL}) == []
        assert [name for name, _ in seen.headers].count("authorization") == (seen is openai)


def test_r03_a_flag_of_the_subscription_leaves_with_it(stage: Stage) -> None:
    """R03: the flag that only a subscription's token needs leaves; the tool's other flags stay."""
    alias = stage.alias()
    stage.play(alias, {"claude-a": MESSAGES.answers()})
    headers = [("authorization", "Bearer sk-ant-oat01-tool"), ("anthropic-beta", "oauth-2025-04-20,tools-x")]
    assert ask(stage, MESSAGES, alias, headers).status == 200
    (seen,) = stage.seen(alias)
    assert seen.header("anthropic-beta") == "tools-x"
    assert seen.header("authorization") == ""
    assert seen.header("x-api-key") == SECRETS["claude-a"]


def test_r05_no_host_sees_anothers_secret(stage: Stage) -> None:
    """R05: A and B on different upstreams: neither sees the other's secret, identity or the tool's own."""
    alias = stage.alias("far")
    stage.play(alias, {"a": refusal(CHAT, alias), "x": CHAT.answers()})
    assert stage.call(CHAT, alias, headers=[*IDENTITY, FORMS["cookie"]]).status == 200
    first, second = stage.seen(alias)
    assert leaks(on_the_wire(first), {**SECRETS, "tool": TOOL}) == ["a"]
    assert leaks(on_the_wire(second), {**SECRETS, "tool": TOOL}) == ["x"]
    assert "org-a" in on_the_wire(first)
    assert "org-a" not in on_the_wire(second)
    assert second.header("host") == f"localhost:{stage.other.tls_port}"


# -- an upstream that echoes -----------------------------------------------------------------------------------------

SECRET = SECRETS["a"]
ECHO = {"error": {"message": f"bad request with {SECRET}", "type": "invalid_request_error", "param": None}}
ECHOES = {
    "body": json_reply(400, ECHO),
    "gzip": encoded(400, ECHO, "gzip"),
    "br": encoded(400, ECHO, "br"),
    "base64": json_reply(400, {"error": {"message": base64.b64encode(SECRET.encode()).decode()}}),
    "header": json_reply(400, {"error": {"message": "no"}}, [("x-received", f"Bearer {SECRET}")]),
    "html": raw(404, [("content-type", "text/html")], f"<p>{SECRET}</p>".encode()),
    "answer": json_reply(200, {"choices": [], "you_sent": SECRET}),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_r06_an_echo_is_masked(stage: Stage, echo: str, http2: bool) -> None:
    """R06: the tool sees the placeholder where the upstream repeats the secret, and a framing that fits."""
    alias = stage.alias("solo")
    stage.play(alias, {"a": ECHOES[echo]})
    response = stage.call(CHAT, alias, http2=http2)
    assert response.end is End.CLEAN
    assert "<understudy:a>" in f"{response.headers}{response.body.decode()}"
    assert leaks(f"{response.headers}{response.body!r}", SECRETS) == []


@pytest.mark.parametrize("encoding", ["", "gzip"], ids=["plain", "gzip"])
def test_r06_an_echo_in_a_stream_event(stage: Stage, encoding: str) -> None:
    """R06: the same inside an error event before output, plain and compressed."""
    alias = stage.alias("solo")
    event = data({"error": {"message": f"rejected {SECRET}", "type": "invalid_request_error"}})
    stage.play(alias, {"a": sse(CHAT.lifecycle[1], event, encoding=encoding)})
    response = stage.call(CHAT, alias, stream=True)
    assert response.end is End.CLEAN
    assert leaks(f"{response.headers}{response.body!r}", SECRETS) == []
    assert b"understudy" in response.body


@pytest.mark.parametrize("status", [401, 403])
def test_r06_a_rejected_credential_is_not_shown(mitmdump: StartProxy, upstream: Upstream, status: int) -> None:
    """R06, W07: a rejection that repeats the secret never reaches the tool; its evidence is masked where it is told."""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool_of(upstream.tls_url))
    upstream.on(SECRET, echo_credential(status))
    response = call(proxy)
    assert response.status == 400
    assert b"its upstream rejects the secret" in response.body
    assert "Incorrect API key provided: <understudy:a>" in proxy.log_text()
    assert leaks(f"{response.headers}{response.body!r}{proxy.log_text()}", SECRETS) == []


def test_r08_a_redirect_takes_no_secret_along(stage: Stage) -> None:
    """R08: a redirect is not followed with the secret: the tool gets it as it is, and the other host gets nothing."""
    alias = stage.alias("solo")
    elsewhere = f"{stage.other.tls_url}/v1/chat/completions"
    stage.play(alias, {"a": redirect(elsewhere)})
    response = stage.call(CHAT, alias)
    assert (response.status, response.header("location")) == (307, elsewhere)
    assert [seen for seen in stage.other.seen if leaks(on_the_wire(seen), {"a": SECRET})] == []
    assert stage.order(alias) == ["a"]


# -- what is not a call ----------------------------------------------------------------------------------------------

SIDE_CALLS = {
    "models": ("GET", "/v1/models?limit=9", b""),
    "one model": ("GET", "/v1/models/gpt-5", b""),
    "telemetry": ("POST", "/api/event_logging/batch", b'{"model": "gpt-5", "events": [1]}'),
    "settings": ("PUT", "/v1/settings", b'{"a":  1}'),
    "token": ("POST", "/oauth/token", b"grant_type=refresh_token&refresh_token=r-1"),
    "other method": ("GET", "/v1/chat/completions", b""),
    "other path": ("POST", "/v1/chat/completions/c-1/cancel", b'{"model": "gpt-5"}'),
    "other case": ("POST", "/V1/Chat/Completions", b'{"model": "gpt-5"}'),
    "no model": ("POST", "/v1/chat/completions", b'{"messages": []}'),
    "no json": ("POST", "/v1/chat/completions", b"\x00\xff"),
}


@pytest.mark.parametrize("call", SIDE_CALLS)
def test_r10_side_calls_arrive_as_they_were_sent(stage: Stage, call: str) -> None:
    """R10: on a pooled host whatever is not a call keeps the tool's own credential, byte for byte."""
    method, path, body = SIDE_CALLS[call]
    mark = ("X-Mark", stage.alias())
    headers = [("Host", "localhost"), ("Authorization", f"Bearer {TOOL}"), ("cookie", f"s={TOOL}"), *IDENTITY, mark]
    headers += [("Content-Length", str(len(body)))] if body else []
    stage.other.on(lambda seen: seen.header("x-mark") == mark[1], json_reply(200, {"side": True}))
    with Connection(stage.proxy.port, stage.other.tls_url, ca=stage.proxy.ca) as tool:
        assert tool.request(method, path, headers, body).json == {"side": True}
    (seen,) = [one for one in stage.other.seen if one.header("x-mark") == mark[1]]
    assert (seen.method, seen.path, seen.body) == (method, path, body)
    assert [(name, value) for name, value in seen.headers if name.lower() != "content-length"] == [
        (name, value) for name, value in headers if name != "Content-Length"
    ]


# -- records ---------------------------------------------------------------------------------------------------------


class Recorded:
    """A proxy that writes down all it can: the log at debug level, the flows, and a HAR file."""

    def __init__(self, proxy: Proxy, har: Path, metrics_port: int) -> None:
        self.proxy = proxy
        self.metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
        self.har = har
        self.journal = har.with_name("journal.jsonl")

    def records(self) -> dict[str, str]:
        """Stop, and return everything that was written, by where it stands."""
        metrics = request(None, self.metrics_url, "GET")
        assert b"understudy_requests_total" in metrics.body
        flows = [flow for flow in self.proxy.flows() if isinstance(flow, http.HTTPFlow)]
        assert flows
        decoded = [
            message.get_content(strict=False) or b""
            for flow in flows
            for message in (flow.request, flow.response)
            if message is not None
        ]
        return {
            "log": self.proxy.log_text(),
            "flow file": self.proxy.flow_path.read_bytes().decode("latin-1"),
            "flows": "\n".join(f"{flow.get_state()} {flow.request.url}" for flow in flows),
            "bodies": b"\n".join(decoded).decode("latin-1"),
            "har": self.har.read_text(),
            "journal": self.journal.read_text(),
            "metrics": metrics.body.decode(),
            "content view": "\n".join(viewed(flow) for flow in flows),
        }

    def leaks(self, secrets: Mapping[str, str]) -> list[str]:
        """Where a secret stands, as ``record: name``."""
        return [f"{place}: {name}" for place, text in self.records().items() for name in leaks(text, secrets)]


def viewed(flow: http.HTTPFlow) -> str:
    """What the content view shows of a flow."""
    metadata = contentviews.Metadata(flow, flow.response.headers.get("content-type")) if flow.response else None
    content = flow.response.get_content(strict=False) if flow.response else None
    return UnderstudyView().prettify(content or b"", metadata or contentviews.Metadata(flow))


def recorded(
    mitmdump: StartProxy, directory: Path, *, settings: Mapping[str, str] | None = None, **options: object
) -> Recorded:
    """Start a proxy that writes down all it can."""
    har = directory / "dump.har"
    everything = {"hardump": str(har), "flow_detail": "4", "store_streamed_bodies": "true"}
    port = free_port()
    everything |= {"pool_journal": str(har.with_name("journal.jsonl")), "pool_metrics_port": str(port)}
    everything |= settings or {}
    return Recorded(mitmdump(verbosity="debug", settings=everything, **options), har, port)


def test_r07_no_record_holds_a_secret(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """R07, R06, R04: after many replays no secret of the pool and nothing of the tool's own is in any record."""
    odd = 'sk-odd/a+b=c 0123456789"quoted'
    secrets = {**SECRETS, "b": odd}
    environment = {**ENVIRONMENT, "SECRET_B": odd}
    pool = pool_yaml(upstream, other_upstream, f"{ROUTES}  looks-*: {{candidates: [a, b], mode: advise}}")
    run = recorded(mitmdump, tmp_path, env=environment, pool_yaml=pool)
    stage = Stage(run.proxy, upstream, other_upstream)
    for api in APIS.values():
        for stream in (False, True):
            alias = stage.alias()
            stage.play(alias, {name: refusal(api, alias) for name in SECRETS})
            upstream.on(lambda seen: seen.credential == odd, echo_credential(429))
            response = ask(stage, api, alias, [*FORMS.values()], f"?key={TOOL}" if api is GEMINI and not stream else "")
            assert response.status >= 400
    for echo in (*ECHOES.values(), echo_credential(401), sse(data({"error": {"message": SECRET}}), *CHAT.events)):
        alias = stage.alias("solo")
        stage.play(alias, {"a": echo})
        for stream in (False, True):
            stage.call(CHAT, alias, stream=stream)
    # Routes that observe: the tool's own credential is on the wire, and what repeats it is in no record.
    upstream.on(lambda seen: seen.credential == TOOL, echo_credential(401))
    for stream in (False, True):
        path, body = CHAT.ask(stage.alias("looks"), stream)
        url = f"{upstream.tls_url}{path}"
        headers = [CHAT.header(TOOL), FORMS["cookie"]]
        response = request(run.proxy.port, url, headers=headers, body=json.dumps(body).encode(), ca=run.proxy.ca)
        assert TOOL.encode() in response.body
    alias = stage.alias("solo")
    stage.play(alias, {"a": silent()})
    with stage.connect(CHAT) as tool:
        path, body = CHAT.ask(alias, True)
        tool.send("POST", path, [CHAT.header(TOOL)], json.dumps(body).encode())
        upstream.wait(lambda seen: any(alias.encode() in one.body for one in seen))
    assert len(upstream.seen) > 20
    assert run.leaks({**secrets, "tool": TOOL}) == []


def test_r04_a_key_in_the_query_is_in_no_record(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, tmp_path: Path
) -> None:
    """R04: ``?key=`` of unrouted calls, of other requests and of large uploads reaches its host, and no record."""
    pool = pool_yaml(upstream, other_upstream, "  elsewhere-*: [gemini-a]")
    run = recorded(mitmdump, tmp_path, env=ENVIRONMENT, pool_yaml=pool, settings={"stream_large_bodies": "1k"})
    upstream.on(lambda seen: TOOL in seen.path, json_reply(200, {"own": True}))
    key = f"key={TOOL}"
    paths = {
        "unrouted": f"/v1beta/models/gemini-x:generateContent?{key}&alt=json",
        "list": f"/v1beta/models?pageSize=5&{key}",
        "twice": f"/v1beta/files?{key}&x=%20y&{key}",
        "encoded": f"/v1beta/cachedContents?k%65y={TOOL}",
    }
    for path in paths.values():
        assert request(run.proxy.port, f"{upstream.tls_url}{path}", body=b'{"a": 1}', ca=run.proxy.ca).status == 200
    upload = f"/upload/v1beta/files?{key}"
    assert request(run.proxy.port, f"{upstream.tls_url}{upload}", body=b"x" * 9999, ca=run.proxy.ca).status == 200
    assert [seen.path for seen in upstream.seen] == [*paths.values(), upload]
    assert run.leaks({"tool": TOOL}) == []


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def test_r07_mitmweb_shows_no_secret(mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream) -> None:
    """R07: what mitmweb tells a browser about flows, events and options holds no secret."""
    proxy = mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool_yaml(upstream, other_upstream),
        program="mitmweb",
        verbosity="debug",
        settings={"web_password": "open", "web_port": str(free_port())},
    )
    stage = Stage(proxy, upstream, other_upstream)
    alias = stage.alias("pair")
    echo = json_reply(400, {"error": {"message": f"bad request with {SECRETS['b']}"}})
    stage.play(alias, {"a": echo_credential(429), "b": echo})
    assert stage.call(CHAT, alias).status == 400
    web = proxy.web_url.partition("?")[0].rstrip("/")

    def get(path: str) -> str:
        response = request(None, f"{web}{path}", "GET", [("authorization", "Bearer open")])
        assert response.status == 200, path
        return response.body.decode()

    flows = json.loads(get("/flows"))
    # The tool's flow, and the attempt that was not released.
    assert [flow["request"]["path"] for flow in flows] == ["/v1/chat/completions"] * 2
    pages = ["/flows", "/events", "/options", "/state"]
    views = ("content.data", "content/understudy", "content/auto")
    messages = [f"/flows/{flow['id']}/{message}" for flow in flows for message in ("request", "response")]
    pages += [f"{message}/{view}" for message in messages for view in views]
    assert {path: found for path in pages if (found := leaks(get(path), {**SECRETS, "tool": TOOL}))} == {}


# -- where a secret may go -------------------------------------------------------------------------------------------


@pytest.fixture
def untrusted(tmp_path: Path) -> Iterator[Upstream]:
    """An upstream whose certificate nobody knows."""
    with Upstream(Authority(tmp_path)) as running:
        yield running


def pool_of(url: str, verify: str = "") -> str:
    """A pool of one credential at one upstream."""
    return f"""
upstreams: {{main: {{dialect: openai, url: "{url}/v1"{verify}}}}}
credentials: {{a: {{upstream: main, secret: {{env: SECRET_A}}}}}}
routes: {{default: [a]}}
"""


def call(proxy: Proxy, *, via: Via = Via.CONNECT) -> Response:
    """One call of a tool."""
    path, body = CHAT.ask("gpt-5", False)
    url = f"{HOSTS['openai']}{path}"
    return request(proxy.port, url, headers=[CHAT.header(TOOL)], body=body, ca=proxy.ca, via=via)


def test_r07_ssl_insecure_sends_no_secret(mitmdump: StartProxy, upstream: Upstream) -> None:
    """R07, law 8: with ssl_insecure no secret is sent; the tool is told why."""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool_of(upstream.tls_url), settings={"ssl_insecure": "true"})
    for _ in range(2):
        response = call(proxy)
        assert response.status == 400
        assert b"ssl_insecure" in response.body
    assert upstream.seen == []


@pytest.mark.parametrize("insecure", ["true", "false"])
def test_verify_false_is_for_that_upstream(mitmdump: StartProxy, untrusted: Upstream, insecure: str) -> None:
    """Law 8: ``verify: false`` serves a host with a certificate of its own, with ssl_insecure or without."""
    untrusted.on(SECRETS["a"], CHAT.answers())
    pool = pool_of(untrusted.tls_url, ", verify: false")
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool, settings={"ssl_insecure": insecure})
    assert [call(proxy).status for _ in range(2)] == [200, 200]
    assert untrusted.credentials == [SECRETS["a"]] * 2


def test_an_unknown_certificate_gets_no_secret(mitmdump: StartProxy, untrusted: Upstream) -> None:
    """Law 8, L09: without ``verify: false`` such a host never sees a request, and the tool is told."""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool_of(untrusted.tls_url))
    response = call(proxy)
    assert response.status in (400, 503)
    assert b"certificate" in response.body.lower()
    assert untrusted.seen == []


def test_a_waived_connection_is_not_used_for_a_strict_upstream(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream
) -> None:
    """Law 8: two upstreams at the same host and port, one with ``verify: false``: each keeps its own rule."""
    pool = f"""
upstreams:
  lax: {{dialect: openai, url: "{upstream.tls_url}/lax", verify: false}}
  strict: {{dialect: openai, url: "{upstream.tls_url}/v1"}}
credentials:
  a: {{upstream: lax, secret: {{env: SECRET_A}}}}
  b: {{upstream: strict, secret: {{env: SECRET_B}}}}
routes: {{default: [a, b]}}
"""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool)
    upstream.on(SECRETS["a"], refusal(CHAT, "gpt-5"))
    upstream.on(SECRETS["b"], CHAT.answers())
    assert call(proxy).status == 200
    assert upstream.credentials == [SECRETS["a"], SECRETS["b"]]


def test_r07_upstream_mode_and_plain_http(mitmdump: StartProxy, upstream: Upstream) -> None:
    """R07, law 8: plain HTTP through an upstream proxy would show that proxy the secret: refused, with the reason."""
    outer = mitmdump(addon=False)
    mode = f"upstream:http://127.0.0.1:{outer.port}"
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool_of(upstream.plain_url), mode=mode)
    response = call(proxy)
    assert response.status == 400
    assert b"upstream proxy" in response.body
    assert upstream.seen == []
    outer.stop()
    assert "server connect" not in outer.log_text()


def test_r07_proxy_debug_is_refused(mitmdump: StartProxy, upstream: Upstream) -> None:
    """R07: proxy_debug prints all that is sent, so the program says so and ends."""
    proxy = mitmdump(env=ENVIRONMENT, pool_yaml=pool_of(upstream.tls_url), settings={"proxy_debug": "true"})
    proxy.wait_for_log("proxy_debug prints everything that is sent")
    proxy.wait_for_log("Error logged during startup, exiting")
