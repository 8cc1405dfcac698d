"""Whose process is at the other end of a loopback connection, so that other users of the machine get nothing (law 12).

A loopback port is open to every user of a machine. On Linux the kernel knows who owns the other end of a connection,
and is asked once per connection: over ``sock_diag`` (netlink), which looks up one socket, else by reading
``/proc/net/tcp``. A socket whose process has let go of it has no owner any more (the kernel then says 0, which is
root), so an owner counts only together with an inode.

Other systems have no such question that needs no privileges; there, and where the kernel cannot be asked, every local
user is served, as with any program that listens on loopback.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mitmproxy import connection
from mitmproxy.proxy.mode_specs import LocalMode, RegularMode, ReverseMode, Socks5Mode, UpstreamMode

from understudy.proxy.descriptors import USED_UP

logger = logging.getLogger("understudy")

type Address = tuple[str, int]
"""An IP address without a zone, and a port."""

UNTOLD = -2
"""Stands for an owner that cannot be told just now, because there is no descriptor to ask with."""
GONE = -1
"""Stands for the owner of a socket that no process has any more, or that the kernel does not know."""
_UNASKED = -3
_OWNER = "understudy_owner"
"""The attribute of a connection that says whose it is, once that was asked."""
_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG, linux/netlink.h
_BY_FAMILY, _REQUEST, _ERROR = 20, 1, 2  # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, NLMSG_ERROR
_ENOENT = 2
_LISTENING = 10  # TCP_LISTEN, net/tcp_states.h
_ANSWER = struct.Struct("=16xBBBB48xIIIII")
"""struct inet_diag_msg behind the netlink header: family, state, ..., then the owner and the inode at the end."""
_SECONDS = 1.0
_TABLES = {socket.AF_INET: Path("/proc/net/tcp"), socket.AF_INET6: Path("/proc/net/tcp6")}
_DIRECT = (RegularMode, UpstreamMode, ReverseMode, Socks5Mode)
"""Modes in which a tool connects to our own port. In the others the kernel has moved the connection here."""


def owner_of(peer: Address, ours: Address) -> int | None:
    """The user id of the process that connected from ``peer`` to ``ours``; GONE without one, None: cannot be told."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        family, there, here = _plain(peer, ours)
    except ValueError:
        return None
    for ask in (_ask_kernel, _read_table):
        try:
            return ask(family, (there, peer[1]), (here, ours[1]))
        except OSError as error:
            if error.errno in USED_UP:
                return UNTOLD
        except (ValueError, struct.error):
            continue
    return None


class LocalUsers:
    """Tells a client's user from the owner of the pool. ``more``: further user ids that are served."""

    def __init__(self, owner: Callable[[Address, Address], int | None] = owner_of) -> None:
        self.more: frozenset[int] = frozenset()
        self._owner = owner
        self._own = os.getuid() if hasattr(os, "getuid") else None
        self._has_warned = False

    def stranger(self, client: connection.Client) -> str:
        """Who else is at the other end, in words; "" for the user of this process, root, ``more`` and the unknown."""
        owner = getattr(client, _OWNER, _UNASKED)
        if owner == _UNASKED:
            owner = self._owner_of(client)
        if owner is None or owner in (0, self._own) or owner in self.more:
            return ""
        if owner == UNTOLD:
            return "a process that cannot be determined while too many files are open"
        return "a process that has ended" if owner == GONE else f"the user {_name(owner)}"

    def is_another(self, client: connection.Client) -> bool:
        """Whether a client is, or may be, of somebody else than the user of this process: also from another machine.

        What the kernel has moved here by itself is this user's, if nobody can tell.
        """
        owner = self._owner_of(client)
        if owner is None:
            return not (isinstance(client.proxy_mode, LocalMode) or _is_local(client))
        return owner not in (0, os.getuid())

    def _owner_of(self, client: connection.Client) -> int | None:
        if (known := getattr(client, _OWNER, _UNASKED)) != _UNASKED:
            return known
        owner = None
        if client.transport_protocol == "tcp" and isinstance(client.proxy_mode, _DIRECT) and _is_local(client):
            owner = self._owner(client.peername[:2], client.sockname[:2])
            if owner is None and sys.platform.startswith("linux") and not self._has_warned:
                self._has_warned = True
                logger.warning(
                    "understudy: cannot ask the kernel whose connections these are: any local user is served"
                )
        if owner != UNTOLD:
            setattr(client, _OWNER, owner)
        return owner


def user_ids(names: Sequence[str]) -> frozenset[int]:
    """User ids by name or number. Raises ValueError, in words, for a user that does not exist."""
    found = set()
    for name in names:
        if name.isdecimal():
            found.add(int(name))
            continue
        try:
            import pwd  # here: Windows has no such module

            found.add(pwd.getpwnam(name).pw_uid)
        except (ImportError, KeyError, ValueError):
            raise ValueError(f"there is no user {name[:60]!r}: write names or user ids") from None
    return frozenset(found)


def _is_local(client: connection.Client) -> bool:
    try:
        return bool(_ip(client.peername[0]).is_loopback)
    except ValueError:
        return False


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address without a zone; one of IPv4 that was written as IPv6 is one of IPv4."""
    found = ipaddress.ip_address(host.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, ipaddress.IPv6Address) else found


def _plain(peer: Address, ours: Address) -> tuple[socket.AddressFamily, bytes, bytes]:
    there, here = _ip(peer[0]), _ip(ours[0])
    if there.version != here.version:
        raise ValueError(f"{peer} and {ours} are of different kinds")
    return socket.AF_INET if there.version == 4 else socket.AF_INET6, there.packed, here.packed


def _ask_kernel(family: socket.AddressFamily, there: tuple[bytes, int], here: tuple[bytes, int]) -> int:
    """Ask for one socket (linux/inet_diag.h, struct inet_diag_req_v2). Raises OSError where that is not possible."""
    ends = struct.pack("!HH16s16s", there[1], here[1], there[0].ljust(16, b"\0"), here[0].ljust(16, b"\0"))
    anywhere = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # any interface, no cookie
    question = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + ends + anywhere
    netlink = socket.AddressFamily(getattr(socket, "AF_NETLINK"))  # noqa: B009  not there on other systems
    with socket.socket(netlink, socket.SOCK_RAW, _SOCK_DIAG) as asked:
        asked.settimeout(_SECONDS)
        asked.send(struct.pack("=IHHII", 16 + len(question), _BY_FAMILY, _REQUEST, 1, 0) + question)
        answer = asked.recv(8192)
    kind = struct.unpack_from("=H", answer, 4)[0]
    if kind == _ERROR:
        number = -struct.unpack_from("=i", answer, 16)[0]
        if number == _ENOENT:
            return GONE
        raise OSError(number, os.strerror(number))
    if kind != _BY_FAMILY:
        raise ValueError("not an answer")
    _, state, _, _, _, _, _, owner, inode = _ANSWER.unpack_from(answer)
    return owner if inode and state != _LISTENING else GONE


def _read_table(family: socket.AddressFamily, there: tuple[bytes, int], here: tuple[bytes, int]) -> int:
    """The same from the table of all connections (proc(5), ``/proc/net/tcp``), in which each word is in our order."""

    def written(end: tuple[bytes, int]) -> str:
        words = (end[0][at : at + 4] for at in range(0, len(end[0]), 4))
        return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words) + f":{end[1]:04X}"

    wanted = written(there), written(here)
    for line in _TABLES[family].read_text("ascii").splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == wanted:
            return int(fields[7]) if int(fields[9]) and int(fields[3], 16) != _LISTENING else GONE
    return GONE


def _name(owner: int) -> str:
    try:
        import pwd

        return f"{pwd.getpwuid(owner).pw_name} ({owner})"
    except (ImportError, KeyError):
        return str(owner)
