"""The way of a call through mitmproxy: the only package that knows mitmproxy's internals.

``stream`` translates mitmproxy's events of one request into questions to the exchange, and its steps into what its
parts do: ``attempt`` (one sending and its reply; the secret goes on the wire there), ``waiting``, ``delivery`` (what
the tool gets) and ``passthrough``. ``engine`` answers what they ask about pool and rules; ``tunnel`` decides which
connections are looked into; ``shortcuts`` makes mitmproxy itself faster. The package never judges a reply and never
chooses a candidate.
``tests/test_contract.py`` lists what is used of mitmproxy. Start with ``stream``.
"""

__all__ = [
    "accepting",
    "descriptors",
    "engine",
    "exchange_facts",
    "garbage",
    "install",
    "listener",
    "shortcuts",
    "socket_owner",
    "tunnel",
    "unused_modules",
    "upstream_connection",
    "worker",
]
