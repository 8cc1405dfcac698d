"""What this proxy tells ``understudy run`` about itself: see ``registry``."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
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
LOOPBACK = "127.0.0.1"
CA_FILE = "mitmproxy-ca-cert.pem"


class Presence:
    """Tells where this proxy is as long as it can be used: with a pool, and listening as an HTTP proxy on loopback."""

    def __init__(self) -> None:
        self._announcement = Announcement(os.environ)
        self._given_up = False

    def tell(self, snapshot: Snapshot | None, servers: Iterable[ServerInstance[Any]], confdir: str) -> None:
        """Say what is true now. A folder that cannot be used is told once: the proxy itself works without."""
        if self._given_up:
            return
        port, ca = _port(servers), Path(confdir).expanduser().absolute() / CA_FILE
        running = None
        if snapshot is not None and port is not None and ca.exists():  # at the very first start it comes a little later
            running = Running(
                pid=os.getpid(),
                port=port,
                ca=str(ca),
                pool=snapshot.pool.path,
                hosts=snapshot.sites.hosts,
                dialects=tuple(filter(snapshot.pool.has_route_for, DIALECTS)),
                companion=COMPANION in os.environ,
                demonstration=DEMONSTRATION in os.environ,
            )
        try:
            self._announcement.tell(running)
        except OSError as error:
            self._given_up = True
            logger.warning(f"understudy: `understudy run` cannot find this proxy: {error}")

    def withdraw(self) -> None:
        """This proxy ends."""
        self._announcement.withdraw()


def _port(servers: Iterable[ServerInstance[Any]]) -> int | None:
    """The first port of an HTTP proxy on loopback."""
    for server in servers:
        if isinstance(server.mode, (RegularMode, UpstreamMode)):
            for address in server.listen_addrs:
                if address[0] == LOOPBACK:
                    return int(address[1])
    return None
