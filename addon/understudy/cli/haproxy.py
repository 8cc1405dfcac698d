"""The configuration of a HAProxy before several workers, or before the proxies of several machines."""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from collections.abc import Sequence

HEAD = """\
# For `understudy serve{options}`. Check it with `haproxy -c -f FILE`.
# mitmproxy reads no PROXY protocol: the workers see the calls as coming from here.
defaults
    mode tcp
    # A long answer, or a tool that waits between two calls, may be silent for long.
    timeout connect 2s
    timeout client 1h
    timeout server 1h
    timeout client-fin 30s
    # A worker that cannot be reached has not seen the call: another one gets it.
    retries 3
    option redispatch

frontend understudy
    bind {bind}
    default_backend workers

backend workers
{balance}
    default-server check inter 1s fall 2 rise 1
"""
BY_SOURCE = """\
    # A tool's conversation stays with one proxy, which knows it.
    balance source
    hash-type consistent"""
BY_LOAD = """\
    # All tools of this machine have one address, so the address says nothing.
    balance leastconn"""
OPEN = (
    "{host} can be reached from other machines, and the workers behind it see every call as one of this machine: "
    "set proxyauth for them (`-- --set proxyauth=@FILE`), or listen on 127.0.0.1"
)
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")


def show(arguments: argparse.Namespace, options: Sequence[str]) -> int:
    """Print it; returns the exit status."""
    host = arguments.listen_host
    if not is_loopback(host) and not any("proxyauth=" in option for option in options):
        # The workers would take every call for one of their own machine, and spend the pool on it (law 12).
        print(f"understudy serve: {OPEN.format(host=host)}", file=sys.stderr)
        return 1
    for server in arguments.server:
        if not _SERVER.fullmatch(server):
            print(f"understudy serve: {server!r} is no server: write HOST:PORT", file=sys.stderr)
            return 2
    print(configuration(host, arguments.port, arguments.workers, arguments.server), end="")
    return 0


def configuration(host: str, port: int, workers: int, servers: Sequence[str] = ()) -> str:
    """The text. ``servers``: other machines' proxies, in place of workers on this one."""
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    options = "" if servers else f" --workers {workers} --port {port} --each-port"
    places = servers or [f"127.0.0.1:{port + number}" for number in range(1, workers + 1)]
    text = HEAD.format(options=options, bind=bind, balance=BY_LOAD if is_loopback(host) else BY_SOURCE)
    return text + "".join(f"    server worker{number} {place}\n" for number, place in enumerate(places, 1))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
