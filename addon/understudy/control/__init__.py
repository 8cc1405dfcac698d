"""Asking a running proxy, and telling it something: the socket, mitmproxy's commands, and the pool page.

``control`` holds what can be asked; ``server`` and ``client`` are both ends of the socket; ``result_text`` writes the
answers; ``page`` serves the pool page; ``registry`` tells which proxies run. It never decides about a call. Start with
``control``.
"""

from understudy.control.client import ControlClientError, ask, running
from understudy.control.registry import OWN_PROXY, Running, running_proxies, write_atomically
from understudy.control.server import ControlServer
from understudy.control.target import ControlError, take_target
from understudy.control.workers import groups

__all__ = [
    "OWN_PROXY",
    "ControlClientError",
    "ControlError",
    "ControlServer",
    "Running",
    "ask",
    "control",
    "groups",
    "mitmproxy_commands",
    "page",
    "presence",
    "registry",
    "result_text",
    "running",
    "running_proxies",
    "server",
    "take_target",
    "usage",
    "workers",
    "write_atomically",
]
