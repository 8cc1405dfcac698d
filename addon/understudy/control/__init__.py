"""Asking a running proxy, and telling it something: the socket, mitmproxy's commands, and the pool page.

``control`` holds what can be asked; ``server`` and ``client`` are both ends of the socket; ``result_text`` writes the
answers; ``page`` serves the pool page; ``registry`` tells which proxies run. It never decides about a call. Start with
``control``.

There are no names to hand on: who asks (``client``, ``registry``, ``workers``, ``usage_report``) must not load what
answers.
"""

__all__ = [
    "client",
    "control",
    "mitmproxy_commands",
    "page",
    "presence",
    "registry",
    "server",
    "target",
    "usage_report",
    "workers",
]
