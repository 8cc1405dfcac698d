"""The way of a call through mitmproxy: the only package that knows mitmproxy's internals.

``stream`` translates mitmproxy's events of one request into questions to the exchange, and its steps into commands;
``engine`` answers what the stream asks about pool and rules; ``upstream_connection`` is where the secret goes on the
wire; ``tunnel`` decides which connections are looked into. It never judges a reply and never chooses a candidate.
``tests/test_contract.py`` lists what is used of mitmproxy. Start with ``stream``.
"""

__all__ = [
    "connection_limit",
    "engine",
    "exchange_facts",
    "install",
    "listener",
    "secret_stream",
    "tunnel",
    "worker",
]
