"""The environment in which a tool goes through the proxy and trusts it, whichever tool it is.

Each tool reads other variables; together these serve all that were measured: ``HTTPS_PROXY`` in both spellings is what
every one of them honours (nothing needs ``HTTP_PROXY`` or ``ALL_PROXY``, which would only lead plain HTTP to a proxy
that cannot do anything for it), Node.js from 24 on with ``NODE_USE_ENV_PROXY``; for the CA see ``trust.py``.
"""

from __future__ import annotations

import ipaddress
import shlex
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from pathlib import Path

from understudy.cli.trust import bundles
from understudy.control.registry import OWN_PROXY, Running

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def variables(running: Running, environ: Mapping[str, str], folder: Path) -> dict[str, str | None]:
    """What to set, and with None what to unset. ``folder`` is where the CA bundles go. Raises OSError."""
    bypassed = no_proxy(environ, running.hosts)
    return {
        "HTTPS_PROXY": running.url,
        "https_proxy": running.url,
        "NO_PROXY": bypassed,
        "no_proxy": bypassed,
        "NODE_USE_ENV_PROXY": "1",
        **bundles(Path(running.ca), environ, folder),
        "SSL_CERT_DIR": None,
        OWN_PROXY: running.url,
    }


def applied(changes: Mapping[str, str | None], environ: Mapping[str, str]) -> dict[str, str]:
    """An environment with these changes."""
    merged = {**environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def shell_lines(changes: Mapping[str, str | None]) -> list[str]:
    """The same for a shell to evaluate (sh, bash, zsh)."""
    return [
        f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}" for name, value in changes.items()
    ]


def no_proxy(environ: Mapping[str, str], hosts: Iterable[str]) -> str:
    """``NO_PROXY`` without whatever would lead round the proxy for a pooled host, and with loopback.

    What a tool calls on this machine stays between the two: that is where its own helpers listen.
    """
    written = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    entries = [entry for part in written.split(",") if (entry := part.strip())]
    pooled = [host for host in hosts if not is_loopback(host)]
    kept = [entry for entry in entries if entry in LOOPBACK or not any(bypasses(entry, host) for host in pooled)]
    return ",".join(dict.fromkeys((*LOOPBACK, *kept)))


def bypasses(entry: str, host: str) -> bool:
    """Whether an entry of ``NO_PROXY`` covers a host: the name, a suffix with or without a dot, a network, or ``*``.

    Tools differ in what they accept, so this is what any of them might take it for. A ``host`` that is a pattern is
    covered when one of the hosts that it stands for is: calls to that one would go past the proxy.
    """
    entry = entry.strip().lower()
    if entry == "*":
        return True
    try:
        address = ipaddress.ip_address(host)
        return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass
    name, _, port = entry.rpartition(":")
    name = name if port.isdecimal() and ":" not in name else entry
    ending = name.removeprefix("*")
    suffix = ending.removeprefix(".")
    if "*" in host:
        host = _nearest(host, suffix)
    by_star = name != ending and host.endswith(ending)  # Node.js takes `*-east.corp` for whatever ends so
    return bool(suffix) and (host == suffix or host.endswith(f".{suffix}") or by_star)


def _nearest(pattern: str, suffix: str) -> str:
    """The host of a pattern that a suffix covers if it covers any: with the suffix's own labels wherever they fit."""
    from understudy.model import host_regex  # here: most hosts are no patterns

    own = pattern.split(".")[::-1]
    wished = suffix.split(".")[::-1][: len(own)]
    pairs = zip_longest(own, wished, fillvalue="")
    nearest = [wish if host_regex(label).fullmatch(wish) else label.replace("*", "x") for label, wish in pairs]
    return ".".join(reversed(nearest))


def is_loopback(host: str) -> bool:
    """Whether this is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def way_out(environ: Mapping[str, str]) -> str:
    """The HTTP proxy that this machine needs to get out, "" when there is none or it is understudy's own."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        value = environ.get(name, "")
        if value:
            return "" if value == environ.get(OWN_PROXY) else value
    return ""
