"""Every way into the proxy: modes, client replay, tunnels; O06, and failover in each mode."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mitmproxy import connection, http, options
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.proxy import commands, context, events
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode
from mitmproxy.proxy.mode_specs import ProxyMode

from understudy.config import pool_file
from understudy.dialects import DIALECTS
from understudy.inspection.journal import FlowJournal
from understudy.proxy.engine import Engine
from understudy.proxy.install import install
from understudy.rules import folders

from .authority import Authority
from .behaviours import json_reply
from .client import Connection, End, Response, Via, request
from .proxy import ADDON, Proxy, StartProxy
from .stage import CHAT, ENVIRONMENT, HOSTS, SECRETS, TOOL, Stage, pool_yaml, refusal, whole
from .upstream import Upstream

both_forms = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@dataclass(frozen=True)
class Way:
    """A way into a proxy, and what a tool would be told to call."""

    stage: Stage
    url: str
    via: Via
    outer: Proxy | None = None
    """The proxy that this one goes through."""

    def call(self, alias: str, *, stream: bool = False, http2: bool = False) -> Response:
        """One call of a tool."""
        path, body = CHAT.ask(alias, stream)
        with Connection(self.stage.proxy.port, self.url, ca=self.stage.proxy.ca, http2=http2, via=self.via) as tool:
            headers = [("content-type", "application/json"), CHAT.header(TOOL)]
            return tool.request("POST", path, headers, json.dumps(body).encode())


MODES = ("regular", "socks5", "upstream", "reverse-https", "reverse-http")


@pytest.fixture(scope="module", params=MODES)
def way(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, confdir: Path, authority: Authority
) -> Iterator[Way]:
    """A proxy in each mode."""

    def proxy(**settings: object) -> Proxy:
        directory = tmp_path_factory.mktemp("mode")
        return Proxy(directory, confdir, **{"trusted": authority.path, **settings})  # type: ignore[arg-type]

    mode = str(request.param)
    with Upstream(authority) as main, Upstream(authority) as other:
        pool = pool_yaml(main, other, plain=mode == "reverse-http")
        match mode:
            case "upstream":
                # A company's proxy: it tunnels, and sees nothing.
                with (
                    proxy(addon=False, settings={"ignore_hosts": ".*"}) as outer,
                    proxy(env=ENVIRONMENT, pool_yaml=pool, mode=f"upstream:http://127.0.0.1:{outer.port}") as inner,
                ):
                    yield Way(Stage(inner, main, other), HOSTS["openai"], Via.CONNECT, outer)
            case "regular" | "socks5":
                via = Via.SOCKS5 if mode == "socks5" else Via.CONNECT
                with proxy(env=ENVIRONMENT, pool_yaml=pool, mode=mode) as running:
                    yield Way(Stage(running, main, other), HOSTS["openai"], via)
            case _:
                target = main.plain_url if mode == "reverse-http" else main.tls_url
                with proxy(env=ENVIRONMENT, pool_yaml=pool, mode=f"reverse:{target}") as running:
                    yield Way(Stage(running, main, other), f"http://127.0.0.1:{running.port}", Via.DIRECT)


@both_forms
def test_failover_in_every_mode(way: Way, stream: bool) -> None:
    """F01, S01: A refuses, B answers, in every mode that can run here; also across upstreams."""
    for route, second in (("pair", "b"), ("far", "x")):
        alias = way.stage.alias(route)
        way.stage.play(alias, {"a": refusal(CHAT, alias), second: whole(CHAT, stream=stream)})
        for _ in range(2):
            response = way.call(alias, stream=stream)
            assert (response.status, response.end) == (200, End.CLEAN)
        assert way.stage.order(alias) == ["a", second, second]
    if way.outer is not None:
        for upstream in (way.stage.main, way.stage.other):
            assert f"server connect localhost:{upstream.tls_port}" in way.outer.log_text()


@pytest.mark.parametrize("way", ["reverse-https", "reverse-http"], indirect=True)
def test_an_unrouted_call_goes_where_it_was_meant_to(way: Way) -> None:
    """Law 9: what has no route keeps its own credential and destination."""
    body = b'{"messages": []}'  # no alias
    own = CHAT.header(TOOL)
    way.stage.main.on(TOOL, json_reply(200, {"own": True}))
    response = request(way.stage.proxy.port, f"{way.url}/v1/chat/completions", headers=[own], body=body, via=way.via)
    assert response.json == {"own": True}
    assert way.stage.main.seen[-1].header("authorization") == f"Bearer {TOOL}"
    assert way.stage.main.seen[-1].body == body


SIDE_CALLS = {
    "settings": ("GET", "/v1/organization/settings", 404),
    "quota": ("POST", "/v1/usage", 404),
    "a call without a route": ("POST", "/v1/chat/completions", 400),
}


@pytest.mark.parametrize("kind", SIDE_CALLS)
@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_a_placeholder_is_never_sent(stage: Stage, kind: str, http2: bool) -> None:
    """Law 8, issue 12: a tool does without a side call after a 404, and tries it again after a 400."""
    method, path, status = SIDE_CALLS[kind]
    before = len(stage.main.seen)
    with stage.connect(CHAT, http2=http2) as connection:
        headers = [("authorization", "Bearer <understudy:client>"), ("content-type", "application/json")]
        body = b"" if method == "GET" else b'{"messages": []}'
        response = connection.request(method, path, headers, body)
    assert (response.status, response.header("x-understudy")) == (status, "answer")
    assert b"carries the placeholder of a saved flow" in response.body
    assert len(stage.main.seen) == before


# -- client replay ---------------------------------------------------------------------------------------------------


def saved_call(mitmdump: StartProxy, main: Upstream, other: Upstream, url: str = "") -> tuple[str, Path]:
    """Make a call whose flow is saved; the alias, and the file."""
    stage = Stage(mitmdump(env=ENVIRONMENT, pool_yaml=pool_yaml(main, other)), main, other)
    alias = stage.alias("pair")
    stage.play(alias, {"a": CHAT.answers()})
    path, body = CHAT.ask(alias, False)
    target = f"{url or HOSTS['openai']}{path}"
    assert request(stage.proxy.port, target, headers=[CHAT.header(TOOL)], body=body, ca=stage.proxy.ca).status == 200
    stage.proxy.stop()
    assert stage.order(alias) == ["a"]
    main.forget()
    return alias, stage.proxy.flow_path


@pytest.mark.parametrize("program", ["mitmdump", "mitmweb"])
def test_a_saved_flow_is_replayed_with_the_pools_credentials(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, program: str
) -> None:
    """R03: client replay of a saved flow, which holds a placeholder only, is served and fails over like a call."""
    alias, file = saved_call(mitmdump, upstream, other_upstream)
    assert TOOL.encode() not in file.read_bytes()
    stage = Stage.__new__(Stage)
    stage.main, stage.other = upstream, other_upstream
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    settings = {"keepserving": "true"} if program == "mitmdump" else {}
    mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool_yaml(upstream, other_upstream),
        program=program,
        settings=settings,
        extra_args=["-C", str(file)],
    )
    upstream.wait(lambda seen: len(seen) == 2)
    assert stage.order(alias) == ["a", "b"]
    for one in upstream.seen:
        assert "understudy" not in f"{one.path}{one.headers}"
        assert one.json["model"] == alias


@pytest.mark.parametrize("pool", ["no route", "no such host", "no pool"])
def test_a_saved_flow_without_a_route_is_never_sent(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, pool: str
) -> None:
    """Law 8: a placeholder that finds no route is refused: neither it nor a pool credential reaches any host."""
    _, file = saved_call(mitmdump, upstream, other_upstream, upstream.tls_url)
    other_host = pool_yaml(other_upstream, other_upstream)
    pools = {"no route": pool_yaml(upstream, other_upstream, "  elsewhere-*: [a]"), "no such host": other_host}
    proxy = mitmdump(
        env=ENVIRONMENT, pool_yaml=pools.get(pool), settings={"keepserving": "true"}, extra_args=["-C", str(file)]
    )
    proxy.wait_for_log("carries the placeholder of a saved flow")
    (flow,) = proxy.flows()
    assert isinstance(flow, http.HTTPFlow)
    assert flow.response is not None
    assert flow.response.status_code == 400
    assert upstream.seen == []


# -- tunnels ---------------------------------------------------------------------------------------------------------

AT_THE_END = f"""
import sys
sys.path.insert(0, {str(ADDON.parents[1])!r})
from mitmproxy import ctx, hooks
from understudy.addon import Understudy

class Last:
    def running(self):
        addon = Understudy()
        ctx.master.addons.add(addon)
        ctx.master.addons.invoke_addon_sync(addon, hooks.ConfigureHook(ctx.options.keys()))

addons = [Last()]
"""
"""A script that puts the addon behind all of mitmproxy's own."""


@pytest.fixture(params=["first", "last"])
def in_order(request: pytest.FixtureRequest, mitmdump: StartProxy, tmp_path: Path) -> StartProxy:
    """Start a proxy with the addon as a script, or appended at the end of the chain."""
    if request.param == "first":
        return mitmdump
    script = tmp_path / "last.py"
    script.write_text(AT_THE_END)

    def start(**settings: object) -> Proxy:
        arguments = [*settings.pop("extra_args", ()), "-s", str(script)]  # type: ignore[misc]
        return mitmdump(addon=False, extra_args=arguments, **settings)

    return start


def local_pool(main: Upstream) -> str:
    """A pool whose only local host is this upstream's; the ``x`` credentials are left out."""
    return pool_yaml(main, main)


@pytest.mark.parametrize("mode", ["regular", "upstream", "socks5"])
def test_o06_other_hosts_are_tunnelled(
    in_order: StartProxy,
    mitmdump: StartProxy,
    upstream: Upstream,
    other_upstream: Upstream,
    authority: Authority,
    mode: str,
) -> None:
    """O06: outside the pool the tool sees the server's own certificate, and no flow is recorded."""
    name = mode
    if mode == "upstream":
        outer = mitmdump(addon=False, settings={"ignore_hosts": ".*"})
        name = f"upstream:http://127.0.0.1:{outer.port}"
    proxy = in_order(env=ENVIRONMENT, pool_yaml=local_pool(upstream), mode=name)
    via = Via.SOCKS5 if mode == "socks5" else Via.CONNECT
    other_upstream.on("own", json_reply(200, {"tunnelled": True}))
    with Connection(proxy.port, other_upstream.tls_url, ca=authority.path, via=via) as tool:
        assert issuer(tool) == "understudy test authority"
        assert tool.request("POST", "/v1/chat/completions", [("authorization", "Bearer own")], b"{}").status == 200
    stage = Stage(proxy, upstream, other_upstream)
    alias = stage.alias("pair")
    stage.play(alias, {"a": CHAT.answers()})
    assert Way(stage, HOSTS["openai"], via).call(alias).status == 200
    (flow,) = proxy.flows()
    assert isinstance(flow, http.HTTPFlow)
    assert flow.request.host == "api.openai.com"


def test_o06_decrypt_all(in_order: StartProxy, upstream: Upstream, other_upstream: Upstream) -> None:
    """O06: ``pool_decrypt=all`` looks into every connection, and still changes nothing outside the pool."""
    proxy = in_order(env=ENVIRONMENT, pool_yaml=local_pool(upstream), settings={"pool_decrypt": "all"})
    other_upstream.on("own", json_reply(200, {"own": True}))
    with Connection(proxy.port, other_upstream.tls_url, ca=proxy.ca) as tool:
        assert tool.request("POST", "/v1/chat/completions", [("authorization", "Bearer own")], b"{}").status == 200
    (flow,) = proxy.flows()
    assert isinstance(flow, http.HTTPFlow)
    assert flow.request.headers["authorization"] == "Bearer own"


def test_o06_the_users_own_hosts_options_stay(
    in_order: StartProxy, upstream: Upstream, other_upstream: Upstream, authority: Authority
) -> None:
    """O06: what the user ignores is tunnelled although it is pooled."""
    settings = {"ignore_hosts": f"localhost:{upstream.tls_port}"}
    proxy = in_order(env=ENVIRONMENT, pool_yaml=local_pool(upstream), settings=settings)
    upstream.on(TOOL, CHAT.answers())
    path, body = CHAT.ask("pair-ignored", False)
    url = f"{upstream.tls_url}{path}"
    assert request(proxy.port, url, headers=[CHAT.header(TOOL)], body=body, ca=authority.path).status == 200
    assert upstream.credentials == [TOOL]


def test_o06_no_pool_file(mitmdump: StartProxy, upstream: Upstream, authority: Authority) -> None:
    """O06: without a pool nothing is looked into."""
    proxy = mitmdump()
    upstream.on(TOOL, CHAT.answers())
    with Connection(proxy.port, upstream.tls_url, ca=authority.path) as tool:
        assert tool.request("POST", "/v1/chat/completions", [CHAT.header(TOOL)], b"{}").status == 200
    assert upstream.credentials == [TOOL]


def issuer(tool: Connection) -> str:
    """Who issued the certificate that the tool sees."""
    fields = tool.certificate["issuer"]
    assert isinstance(fields, tuple)
    return str(dict(pair for (pair,) in fields)["commonName"])


# -- unusual clients -------------------------------------------------------------------------------------------------


def opened(port: int, target: str) -> socket.socket:
    """A tunnel through the proxy."""
    plain = socket.create_connection(("127.0.0.1", port), 20)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = plain.recv(1)
        assert part, head
        head += part
    assert b" 200 " in head
    return plain


def asked(alias: str) -> bytes:
    """A call as bytes, after which the connection ends."""
    path, asked_for = CHAT.ask(alias, False)
    body = json.dumps(asked_for).encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: api.openai.com",
        f"Authorization: Bearer {TOOL}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_all(read: Callable[[], bytes]) -> bytes:
    """Everything until the other side ends."""
    found = b""
    while part := read():
        found += part
    return found


def tls_by_bytes(plain: socket.socket, name: str | None, ca: Path, content: bytes, host: str = "") -> bytes:
    """Speak TLS over a socket, its first flight in single bytes; the answer to ``content``."""
    trust = ssl.create_default_context(cafile=ca)
    trust.check_hostname = name is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trust.wrap_bio(incoming, outgoing, server_hostname=name)
    first = True

    def pump(step: Callable[[], bytes | None]) -> bytes:
        nonlocal first
        while True:
            try:
                result = step() or b""
            except ssl.SSLWantReadError:
                result = None
            except ssl.SSLEOFError:
                return b""
            flight = outgoing.read()
            if flight and first:
                first = False
                for byte in flight:
                    plain.sendall(bytes([byte]))
            else:
                plain.sendall(flight)
            if result is not None:
                return result
            data = plain.recv(65536)
            incoming.write(data) if data else incoming.write_eof()

    pump(lambda: tls.do_handshake())
    pump(lambda: bytes(tls.write(content)))
    return read_all(lambda: pump(lambda: tls.read(65536)))


@pytest.mark.parametrize("name", ["api.openai.com", None], ids=["sni", "no-sni"])
def test_o06_client_hello_in_single_bytes(stage: Stage, name: str | None) -> None:
    """O06: a ClientHello byte by byte, with and without a name in it, is recognised and served."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    with opened(stage.proxy.port, "api.openai.com:443") as plain:
        answer = tls_by_bytes(plain, name, stage.proxy.ca, asked(alias))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert stage.order(alias) == ["a", "b"]


@pytest.mark.parametrize("name", ["localhost", None], ids=["sni", "no-sni"])
def test_o06_client_hello_in_single_bytes_tunnelled(
    stage: Stage, upstream: Upstream, authority: Authority, name: str | None
) -> None:
    """O06: the same to a host outside the pool is tunnelled whole."""
    upstream.on(TOOL, CHAT.answers())
    with opened(stage.proxy.port, f"127.0.0.1:{upstream.tls_port}") as plain:
        answer = tls_by_bytes(plain, name, authority.path, asked("gpt-5"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert upstream.credentials == [TOOL]
    assert upstream.seen[0].server_name == (name or "")


def test_o06_plain_http_through_connect(stage: Stage, upstream: Upstream) -> None:
    """O06: plain HTTP in a tunnel: served for a pooled name in its Host header, tunnelled for another."""
    alias = stage.alias("pair")
    stage.play(alias, {"a": refusal(CHAT, alias), "b": CHAT.answers()})
    with opened(stage.proxy.port, "api.openai.com:80") as plain:
        plain.sendall(asked(alias))
        assert read_all(lambda: plain.recv(65536)).startswith(b"HTTP/1.1 200 ")
    assert stage.order(alias) == ["a", "b"]
    upstream.on(TOOL, CHAT.answers())
    with opened(stage.proxy.port, f"127.0.0.1:{upstream.plain_port}") as plain:
        plain.sendall(asked(alias).replace(b"api.openai.com", b"llm.example"))
        assert read_all(lambda: plain.recv(65536)).startswith(b"HTTP/1.1 200 ")
    assert upstream.credentials == [TOOL]


@pytest.mark.parametrize("strategy", ["lazy", "eager"])
def test_a_host_that_cannot_be_reached_is_still_served(
    mitmdump: StartProxy, upstream: Upstream, other_upstream: Upstream, strategy: str
) -> None:
    """L09: whoever calls a host that does not exist is served by the pool, whatever connection_strategy says."""
    extra = "intercept: [{host: llm.invalid, dialect: openai, base_path: /v1}]"
    proxy = mitmdump(
        env=ENVIRONMENT,
        pool_yaml=pool_yaml(upstream, other_upstream, extra=extra),
        settings={"connection_strategy": strategy},
    )
    upstream.on(SECRETS["a"], CHAT.answers())
    path, body = CHAT.ask("pair-unreachable", False)
    url = f"https://llm.invalid{path}"
    assert request(proxy.port, url, headers=[CHAT.header(TOOL)], body=body, ca=proxy.ca).status == 200
    assert upstream.credentials == [SECRETS["a"]]


# -- modes that need the system's help -------------------------------------------------------------------------------

TRANSPARENT_POOL = """
upstreams: {main: {dialect: openai, url: "http://127.0.0.1:9/v1"}}
credentials: {a: {upstream: main, secret: {env: SECRET_A}}}
routes: {"pair-*": [a]}
"""


@pytest.fixture
def transparent(tmp_path: Path) -> Iterator[HttpLayer]:
    """mitmproxy's HTTP layer as transparent, local and WireGuard modes have it: an address, and a name from SNI."""
    opts = options.Options()
    Proxyserver().load(opts)
    client = connection.Client(
        peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0.0, state=connection.ConnectionState.OPEN
    )
    client.proxy_mode = ProxyMode.parse("transparent")
    client.sni, client.tls, client.alpn = "api.openai.com", True, b"http/1.1"
    where = context.Context(client, opts)
    where.server.address, where.server.tls = ("203.0.113.7", 443), True
    engine = Engine(folders.shipped())
    engine.use(pool_file.parse(TRANSPARENT_POOL, tmp_path / "pool.yaml", ENVIRONMENT, DIALECTS))
    uninstall = install(engine, FlowJournal())
    yield HttpLayer(where, HTTPMode.transparent)
    uninstall()


def drive(layer: HttpLayer, sent: bytes) -> tuple[connection.Address | None, bytes]:
    """Let the client send this; where the layer connects to, and what it sends there."""
    target: connection.Address | None = None
    data = b""
    todo: list[events.Event] = [events.Start(), events.DataReceived(layer.context.client, sent)]
    while todo:
        for command in layer.handle_event(todo.pop(0)):
            match command:
                case commands.StartHook():
                    todo.append(events.HookCompleted(command))
                case commands.OpenConnection():
                    target = command.connection.address
                    command.connection.state = connection.ConnectionState.OPEN
                    todo.append(events.OpenConnectionCompleted(command, None))
                case commands.SendData() if command.connection is not layer.context.client:
                    data += command.data
    return target, data


def test_transparent_mode_goes_by_the_name(transparent: HttpLayer) -> None:
    """F01: where only an address is known, a call is recognised by SNI, and the pool's upstream gets it."""
    target, sent = drive(transparent, asked("pair-1"))
    assert target == ("127.0.0.1", 9)
    assert f"Bearer {SECRETS['a']}\r\n".encode() in sent
    assert b"Host: 127.0.0.1:9\r\n" in sent
    assert TOOL.encode() not in sent


def test_transparent_mode_unrouted(transparent: HttpLayer) -> None:
    """Law 9: an unrouted call still goes to the address that it was sent to."""
    target, _ = drive(transparent, asked("elsewhere"))
    assert target == ("203.0.113.7", 443)
