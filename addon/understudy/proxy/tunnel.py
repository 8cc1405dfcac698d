"""Which connections are looked into: those to pooled hosts. Everything else is tunnelled as it is (law 9, O06).

This is a ``next_layer`` hook of our own, right in either addon order, so that ``allow_hosts`` and ``ignore_hosts``
stay the user's. The host is SNI, then the Host header, then the address; with none of them the connection is
tunnelled. A reverse target is always looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mitmproxy import ctx
from mitmproxy.exceptions import AddonHalt
from mitmproxy.net.http import url
from mitmproxy.net.tls import starts_like_tls_record
from mitmproxy.proxy import layer, layers
from mitmproxy.proxy.layers import modes
from mitmproxy.proxy.layers.http import HttpStream
from mitmproxy.proxy.layers.http._upstream_proxy import HttpUpstreamProxy
from mitmproxy.proxy.layers.quic import quic_parse_client_hello_from_datagrams
from mitmproxy.proxy.layers.tls import parse_client_hello
from mitmproxy.proxy.mode_specs import ReverseMode

REQUEST_LINE = re.compile(rb"[A-Z]{3,}[^\r\n]+HTTP/", re.IGNORECASE)
HOST_HEADER = re.compile(rb"\r\nHost:[ \t]*([^\r\n]+?)[ \t]*\r\n", re.IGNORECASE)
HEAD_LIMIT = 64 * 1024
"""Bytes of a plain request that are read in search of its Host header."""
DNS_PORTS = (53, 5353)


def decide(question: layer.NextLayer, pooled: Callable[[str, int], bool]) -> None:
    """Answer mitmproxy's question what comes next: a tunnel, or nothing of ours.

    Raises AddonHalt when more data is needed, so that no other addon answers on too little.
    """
    context = question.context
    if isinstance(context.client.proxy_mode, ReverseMode):
        return
    answered = _chain(question.layer)
    below = [each for each in context.layers if each not in answered]
    if not below or not isinstance(below[-1], (HttpStream, modes.DestinationKnown, HttpUpstreamProxy)):
        return  # not the start of a tunnel: TLS is established already, or it is the proxy's own protocol
    udp = context.client.transport_protocol == "udp"
    address = context.server.address
    try:
        name = _datagram_name(question, address) if udp else _name(question.data_client())
    except NotEnough:
        _take_back(question, below)
        raise AddonHalt from None
    if name is None and udp:
        return
    host, port = name or (address[0] if address else ""), address[1] if address else 443
    if host and pooled(host, port):
        return
    _take_back(question, below)
    hidden = not ctx.options.show_ignored_hosts
    question.layer = layers.UDPLayer(context, ignore=hidden) if udp else layers.TCPLayer(context, ignore=hidden)


class NotEnough(Exception):
    """The name of the host may still come."""


def _name(data: bytes) -> str | None:
    """SNI or Host header at the start of a connection; None when there is none. Raises NotEnough."""
    if starts_like_tls_record(data):
        try:
            hello = parse_client_hello(data)
        except ValueError:
            return None
        if hello is None:
            raise NotEnough
        return hello.sni
    if not data or (b"\x16\x03\x03".startswith(data[:2]) and len(data) < 3):
        raise NotEnough
    if REQUEST_LINE.match(data):
        if found := HOST_HEADER.search(data):
            try:
                return url.parse_authority(found[1], check=True)[0]
            except ValueError:
                return None
        if b"\r\n\r\n" not in data and len(data) < HEAD_LIMIT:
            raise NotEnough
    return None


def _datagram_name(question: layer.NextLayer, address: tuple[str, int] | None) -> str | None:
    """SNI of a QUIC client hello; None for anything else, which is mitmproxy's business."""
    if address and address[1] in DNS_PORTS:
        return None
    try:
        hello = quic_parse_client_hello_from_datagrams([question.data_client()])
    except ValueError:
        return None
    if hello is None:
        raise NotEnough
    return hello.sni


def _chain(top: layer.Layer | None) -> list[layer.Layer]:
    """A layer that another addon answered with, and the layers that it made for its inside."""
    found = []
    while top is not None and not isinstance(top, layer.NextLayer):
        found.append(top)
        top = getattr(top, "child_layer", None)
    return found


def _take_back(question: layer.NextLayer, below: list[layer.Layer]) -> None:
    """Undo another addon's answer: layers enter themselves into their context when they are made."""
    question.layer = None
    question.context.layers[:] = below
