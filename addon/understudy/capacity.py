"""Room for all requests of one client connection at a pooled upstream.

mitmproxy opens at most five connections per address and client connection, each held for its whole life. One HTTP/2
client with a hundred streams to an HTTP/1.1 upstream would wait there for ever, and time queued there is neither
connect time nor a fault. Ending such a wait from outside would leave mitmproxy's layer paused for good, so the limit
is lifted instead, for pooled upstreams only.
"""

from __future__ import annotations

import asyncio

from mitmproxy import connection, master
from mitmproxy.connection import Address

UNLIMITED = 1_000_000


def lift_connection_limit(owner: master.Master, client: connection.Client, address: Address | None) -> None:
    """Lift the limit for one address on one client connection. To be called before the connection is opened."""
    proxyserver = owner.addons.get("proxyserver")
    handler = proxyserver.connections.get(client.id) if proxyserver else None
    # A replayed flow has a handler of its own that mitmproxy lists nowhere; it makes one request.
    if handler is not None and address is not None and handler.max_conns[address]._value < UNLIMITED // 2:
        handler.max_conns[address] = asyncio.Semaphore(UNLIMITED)
