"""Which connections are looked into, asked before and after mitmproxy's own addon has answered."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection, options
from mitmproxy.addons.next_layer import NextLayer
from mitmproxy.addons.proxyserver import Proxyserver
from mitmproxy.exceptions import AddonHalt
from mitmproxy.proxy import context, events, layer, layers
from mitmproxy.proxy.layers import modes, tls
from mitmproxy.proxy.layers.http import HttpLayer, HTTPMode, HttpStream
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.proxy.mode_specs import ProxyMode
from mitmproxy.test import taddons

from understudy.proxy import tunnel

POOLED = "api.openai.com"
ELSEWHERE = "www.example.com"

Decide = Callable[[layer.NextLayer], bool]


def pooled(host: str, port: int) -> bool:
    """What a pool would say."""
    return host == POOLED


@pytest.fixture(params=["first", "last"])
def decide(request: pytest.FixtureRequest) -> Iterator[Decide]:
    """Ask our hook and mitmproxy's own in either order; whether somebody has answered."""
    theirs = NextLayer()
    with taddons.context(theirs, Proxyserver()):

        def ask(question: layer.NextLayer) -> bool:
            try:
                if request.param == "last":
                    theirs.next_layer(question)
                tunnel.decide(question, pooled)
                if request.param == "first":
                    theirs.next_layer(question)
            except AddonHalt:
                assert question.layer is None
            return question.layer is not None

        yield ask


def question_in(mode: str, address: tuple[str, int] | None = (ELSEWHERE, 443)) -> layer.NextLayer:
    """A question at the start of a tunnel, as each mode asks it."""
    opts = options.Options()
    Proxyserver().load(opts)
    client = connection.Client(peername=("127.0.0.1", 1), sockname=("127.0.0.1", 2), timestamp_start=0.0)
    client.proxy_mode = ProxyMode.parse(mode)
    here = context.Context(client, opts)
    match mode.partition(":")[0]:
        case "regular":
            modes.HttpProxy(here)
            HttpLayer(here, HTTPMode.regular)
            HttpStream(here, 1)
        case "upstream":
            modes.HttpUpstreamProxy(here)
            HttpLayer(here, HTTPMode.upstream)
            HttpStream(here, 1)
            here.server.via = ("http", ("127.0.0.1", 9))
            HttpUpstreamProxy.make(here, True)
        case "socks5":
            modes.Socks5Proxy(here)
        case "transparent":
            modes.TransparentProxy(here)
        case _:
            modes.ReverseProxy(here)
    here.server.address = address
    return layer.NextLayer(here)


def fed(question: layer.NextLayer, *parts: bytes) -> layer.NextLayer:
    """The same question when the client has sent these."""
    question.events += [events.DataReceived(question.context.client, part) for part in parts]
    return question


def client_hello(name: str | None) -> bytes:
    """The first flight of a TLS client."""
    trust = ssl.create_default_context()
    trust.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls_client = trust.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls_client.do_handshake()
    return outgoing.read()


def tunnelled(question: layer.NextLayer, below: list[layer.Layer]) -> bool:
    """Whether the answer is a tunnel that leaves no trace, with nothing of another answer left."""
    return (
        type(question.layer) is layers.TCPLayer
        and question.layer.flow is None
        and question.context.layers == [*below, question.layer]
    )


MODES = ("regular", "upstream:http://127.0.0.1:9", "socks5", "transparent")
every_mode = pytest.mark.parametrize("mode", MODES)


@every_mode
def test_a_pooled_name_is_looked_into(decide: Decide, mode: str) -> None:
    """O06: by SNI, also when the address says nothing."""
    question = fed(question_in(mode, ("203.0.113.7", 443)), client_hello(POOLED))
    assert decide(question)
    assert isinstance(question.layer, tls.ServerTLSLayer)


@every_mode
def test_another_name_is_tunnelled(decide: Decide, mode: str) -> None:
    """O06: by SNI, also when the address is a pooled one: what the tool means is in SNI."""
    question = question_in(mode, (POOLED, 443))
    below = list(question.context.layers)
    assert decide(fed(question, client_hello(ELSEWHERE)))
    assert tunnelled(question, below)


@every_mode
@pytest.mark.parametrize("name", [POOLED, ELSEWHERE])
def test_a_client_hello_in_single_bytes(decide: Decide, mode: str, name: str) -> None:
    """O06: nobody answers before the whole ClientHello is there, in any addon order."""
    question = question_in(mode)
    below = list(question.context.layers)
    hello = client_hello(name)
    for at in range(len(hello) - 1):
        assert not decide(fed(question, hello[at : at + 1])), at
        assert question.context.layers == below
    assert decide(fed(question, hello[-1:]))
    assert isinstance(question.layer, tls.ServerTLSLayer) if name == POOLED else tunnelled(question, below)


@every_mode
@pytest.mark.parametrize("name", [POOLED, ELSEWHERE])
def test_without_sni_the_address_counts(decide: Decide, mode: str, name: str) -> None:
    """O06: no SNI: the address of the tunnel."""
    question = question_in(mode, (name, 443))
    below = list(question.context.layers)
    assert decide(fed(question, client_hello(None)))
    assert isinstance(question.layer, tls.ServerTLSLayer) if name == POOLED else tunnelled(question, below)


@every_mode
@pytest.mark.parametrize("name", [POOLED, ELSEWHERE])
def test_plain_http(decide: Decide, mode: str, name: str) -> None:
    """O06: plain HTTP in a tunnel, by its Host header, which may come late."""
    question = question_in(mode, ("203.0.113.7", 80))
    below = list(question.context.layers)
    assert not decide(fed(question, b"POST /v1/chat/completions HTTP/1.1\r\nX-A: b\r\n"))
    assert decide(fed(question, f"Host: {name}\r\n\r\n".encode()))
    assert isinstance(question.layer, HttpLayer) if name == POOLED else tunnelled(question, below)


@every_mode
@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n", b"\x00\x01\x02\x03", b"GET / HTTP/1.1\r\nA: b\r\n\r\n"])
def test_what_names_no_host_goes_by_its_address(decide: Decide, mode: str, data: bytes) -> None:
    """O06: neither TLS nor a Host header: a tunnel, unless the address itself is pooled."""
    question = question_in(mode)
    below = list(question.context.layers)
    assert decide(fed(question, data))
    assert tunnelled(question, below)


@every_mode
def test_without_any_name_it_is_a_tunnel(decide: Decide, mode: str) -> None:
    """O06: no SNI, no Host header, no address."""
    question = question_in(mode, None)
    below = list(question.context.layers)
    assert decide(fed(question, client_hello(None)))
    assert tunnelled(question, below)


@pytest.mark.parametrize("target", ["https://www.example.com", "http://www.example.com"])
def test_a_reverse_target_is_always_looked_into(decide: Decide, target: str) -> None:
    """O06: whoever names a target wants it looked into."""
    question = question_in(f"reverse:{target}")
    assert decide(fed(question, b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"))
    assert not isinstance(question.layer, layers.TCPLayer)


def test_inside_tls_nothing_is_decided_again(decide: Decide) -> None:
    """O06: once TLS is established, what is inside is mitmproxy's business."""
    question = question_in("regular")
    tls.ServerTLSLayer(question.context)
    tls.ClientTLSLayer(question.context)
    assert decide(fed(question, f"GET / HTTP/1.1\r\nHost: {ELSEWHERE}\r\n\r\n".encode()))
    assert isinstance(question.layer, HttpLayer)


def test_the_proxys_own_protocol_is_left_alone(decide: Decide) -> None:
    """O06: the first bytes to an HTTP proxy are for the proxy itself."""
    question = question_in("regular")
    del question.context.layers[1:]
    assert decide(fed(question, f"CONNECT {ELSEWHERE}:443 HTTP/1.1\r\n\r\n".encode()))
    assert isinstance(question.layer, HttpLayer)


def test_name_lookups_are_left_alone() -> None:
    """O06: DNS over UDP is neither tunnelled nor looked into by us."""
    question = question_in("transparent", ("203.0.113.7", 53))
    question.context.client.transport_protocol = "udp"
    tunnel.decide(fed(question, b"\x00" * 12), pooled)
    assert question.layer is None


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5))
def test_any_bytes_are_decided(parts: list[bytes]) -> None:
    """Law 9: whatever comes, it is a tunnel or a wish for more, never an exception."""
    question = fed(question_in("regular"), *parts)
    with taddons.context(NextLayer(), Proxyserver()):
        try:
            tunnel.decide(question, pooled)
        except AddonHalt:
            assert question.layer is None
        else:
            assert isinstance(question.layer, layers.TCPLayer)
