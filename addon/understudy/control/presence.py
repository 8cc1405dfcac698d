"""What this proxy tells ``understudy run`` about itself: see ``registry``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.mode_specs import RegularMode, UpstreamMode

from understudy.control.registry import Announcement, Running
from understudy.dialects import DIALECTS
from understudy.proxy.engine import Snapshot

logger = logging.getLogger("understudy")

COMPANION = "UNDERSTUDY_COMPANION"
"""Set in the environment of a proxy that ``understudy run`` started."""
DEMONSTRATION = "UNDERSTUDY_DEMONSTRATION"
"""Set in the environment of a proxy that shows the demonstration."""
LOOPBACK = ("127.0.0.1", "::1")
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
CA_FILE = "mitmproxy-ca-cert.pem"

PASSWORD = (
    "it asks for a user and a password (proxyauth): name them, as in `--proxy http://USER:PASSWORD@{address}`, or "
    "start one without"
)
OPEN = "it can be reached from other machines and has no proxyauth, so it does not use the pool: set proxyauth"
NO_HTTP_PROXY = "it is no HTTP proxy ({modes}): `run` starts another, or set the base URL of the tool"


class Presence:
    """Tells where this proxy is as long as it has a pool, and whether tools can be led to it.

    They can where it is an HTTP proxy that this machine reaches, that asks for no password, and that uses the pool.
    """

    def __init__(self) -> None:
        self._announcement = Announcement(os.environ)
        self._given_up = False

    def tell(
        self,
        snapshot: Snapshot | None,
        servers: Iterable[ServerInstance[Any]],
        confdir: str,
        *,
        password: bool = False,
        allow_remote: bool = False,
        rules: Sequence[str] = (),
    ) -> None:
        """Say what is true now. A folder that cannot be used is told once: the proxy itself works without.

        ``password``: ``proxyauth`` is set. ``allow_remote``: the pool may be used from everywhere. ``rules``: the
        folders of ``pool_rules``.
        """
        if self._given_up:
            return
        servers, ca = list(servers), Path(confdir).expanduser().absolute() / CA_FILE
        running = None
        if snapshot is not None and any(server.listen_addrs for server in servers) and ca.exists():
            host, port, why_not = _place(servers, password=password, allow_remote=allow_remote)
            running = Running(
                pid=os.getpid(),
                host=host,
                port=port,
                why_not=why_not,
                ca=str(ca),
                rules=tuple(str(Path(folder).expanduser().absolute()) for folder in rules),
                pool=snapshot.pool.path,
                hosts=snapshot.sites.hosts,
                credentials=tuple(each.name for each in snapshot.pool.credentials.values() if not each.missing),
                dialects=tuple(filter(snapshot.pool.has_route_for, DIALECTS)),
                companion=COMPANION in os.environ,
                demonstration=DEMONSTRATION in os.environ,
                holds=max((route.until_reset for route in snapshot.pool.routes.values()), default=0.0),
            )
        try:
            self._announcement.tell(running)
        except OSError as error:
            self._given_up = True
            logger.warning(f"understudy: `understudy run` cannot find this proxy: {error}")

    @property
    def is_told(self) -> bool:
        """Whether ``understudy run`` can find this proxy."""
        return self._announcement.is_told

    def withdraw(self) -> None:
        """This proxy ends."""
        self._announcement.withdraw()


def _place(servers: Iterable[ServerInstance[Any]], *, password: bool, allow_remote: bool) -> tuple[str, int, str]:
    """Host and port of the HTTP proxy that tools are led to, on loopback if there is one there, and why they are not.

    The port is 0 where there is no HTTP proxy.
    """
    proxies = [server for server in servers if isinstance(server.mode, (RegularMode, UpstreamMode))]
    addresses = [(str(address[0]), int(address[1])) for server in proxies for address in server.listen_addrs]
    if not addresses:
        return "", 0, NO_HTTP_PROXY.format(modes=", ".join(server.mode.full_spec for server in servers))
    host, port = min(addresses, key=lambda address: address[0] not in LOOPBACK)
    reached = ANY.get(host, host)
    if password:
        return reached, port, PASSWORD.format(address=f"[{reached}]:{port}" if ":" in reached else f"{reached}:{port}")
    return reached, port, "" if host in LOOPBACK or allow_remote else OPEN
