"""Room for all requests of one client connection at a pooled upstream, and no socket left open behind them.

mitmproxy opens at most five connections per address and client connection, each held for its whole life. One HTTP/2
client with a hundred streams to an HTTP/1.1 upstream would wait there for ever, and time queued there is neither
connect time nor a fault. Ending such a wait from outside would leave mitmproxy's layer paused for good, so the limit
is lifted instead, for pooled upstreams only.

A connection that is closed while more of its data waits to be read, as that of an abandoned attempt is, can lose its
handler to the cancellation before mitmproxy comes to close the socket: an upstream that never ends would then hang on
to it for ever.
"""

from __future__ import annotations

import asyncio

from mitmproxy import connection, master
from mitmproxy.connection import Address
from mitmproxy.proxy.server import ConnectionHandler

UNLIMITED = 1_000_000


def lift_connection_limit(owner: master.Master, client: connection.Client, address: Address | None) -> None:
    """Lift the limit for one address on one client connection. To be called before the connection is opened."""
    handler = _handler(owner, client)
    # A replayed flow has a handler of its own that mitmproxy lists nowhere; it makes one request.
    if handler is not None and address is not None and handler.max_conns[address]._value < UNLIMITED // 2:
        handler.max_conns[address] = asyncio.Semaphore(UNLIMITED)


def close_socket(owner: master.Master, client: connection.Client, server: connection.Server) -> None:
    """Close the socket of a connection that is over, if it is still open. To be called when it is disconnected."""
    handler = _handler(owner, client)
    transport = handler.transports.pop(server, None) if handler is not None else None
    if transport is not None and transport.writer is not None:
        transport.writer.close()


def _handler(owner: master.Master, client: connection.Client) -> ConnectionHandler | None:
    proxyserver = owner.addons.get("proxyserver")
    return proxyserver.connections.get(client.id) if proxyserver else None
