"""Whose process is at the other end of a loopback connection (law 12), asked of the kernel about real sockets."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from mitmproxy import connection
from mitmproxy.connection import ConnectionState
from mitmproxy.proxy.mode_specs import ProxyMode

from understudy.proxy import socket_owner
from understudy.proxy.socket_owner import GONE, Address, LocalUsers, owner_of, user_ids

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells whose a connection is")
as_root = pytest.mark.skipif(
    not sys.platform.startswith("linux") or os.getuid() != 0, reason="only root can make another user's socket"
)
NOBODY = 65534

Ask = Callable[[Address, Address], int | None]


@contextmanager
def effective_user(uid: int) -> Iterator[None]:
    """Sockets that are made here belong to this user."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(params=["kernel", "table"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Both ways to ask: the second one serves where the first one is forbidden."""
    if request.param == "table":

        def forbidden(*_: object) -> int:
            raise PermissionError("no netlink here")

        monkeypatch.setattr(socket_owner, "_ask_kernel", forbidden)
    return owner_of


@contextmanager
def pair(family: int, host: str, to: str = "") -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the tool's socket, ours)."""
    try:
        listener = socket.socket(family)
        listener.bind((host, 0))
    except OSError as error:
        pytest.skip(f"{host} cannot be used here: {error}")
    with closing(listener):
        if host == "::":
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.listen()
        with closing(socket.create_connection((to or host, listener.getsockname()[1]))) as tool:
            ours, _ = listener.accept()
            with closing(ours):
                yield tool, ours


def ends(ours: socket.socket) -> tuple[Address, Address]:
    return ours.getpeername()[:2], ours.getsockname()[:2]


@linux
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_our_own_connection_is_ours(ask: Ask, family: int, host: str) -> None:
    with pair(family, host) as (tool, ours):
        assert ask(*ends(ours)) == os.getuid()
        tool.shutdown(socket.SHUT_WR)
        assert ask(*ends(ours)) == os.getuid()


@linux
def test_a_socket_without_a_process_has_no_owner(ask: Ask) -> None:
    """O10: the kernel says 0 of such a socket, which must not be taken for root."""
    with pair(socket.AF_INET, "127.0.0.1") as (tool, ours):
        peer, local = ends(ours)
        tool.close()
        assert ask(peer, local) == GONE
        assert ask((peer[0], 1), local) == GONE


@linux
def test_a_listener_on_the_port_of_a_connection_is_not_its_owner(ask: Ask) -> None:
    with pair(socket.AF_INET, "127.0.0.1") as (_, ours):
        listening = ours.getsockname()[:2]
        assert ask(listening, ("127.0.0.1", 1)) == GONE


@as_root
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_another_users_connection_is_theirs(ask: Ask, family: int, host: str) -> None:
    """O10: the owner is the user who made the socket."""
    with effective_user(NOBODY), pair(family, host) as (_, ours):
        assert ask(*ends(ours)) == NOBODY


@linux
def test_addresses_of_different_kinds_and_nonsense_are_unknown() -> None:
    assert owner_of(("127.0.0.1", 1), ("::1", 2)) is None
    assert owner_of(("nowhere", 1), ("::1", 2)) is None


@linux
def test_ipv4_through_an_ipv6_socket(ask: Ask) -> None:
    with pair(socket.AF_INET, "127.0.0.1") as (_, ours):
        (there, port), (here, local) = ends(ours)
        assert ask((f"::ffff:{there}", port), (f"::ffff:{here}", local)) == os.getuid()


def test_other_systems_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert owner_of(("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def client(host: str = "127.0.0.1", mode: str = "regular", transport: str = "tcp") -> connection.Client:
    made = connection.Client(
        peername=(host, 4711),
        sockname=(host, 8080),
        timestamp_start=0.0,
        proxy_mode=ProxyMode.parse(mode),
        state=ConnectionState.OPEN,
    )
    made.transport_protocol = transport  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("owner", "stranger"),
    [
        (os.getuid(), ""),
        (0, ""),
        (NOBODY + 1, ""),  # who is named
        (None, ""),  # who cannot be told
        (GONE, "a process that has ended"),
        (4_000_000, "the user 4000000"),
    ],
)
def test_who_is_served(owner: int | None, stranger: str) -> None:
    """O10, law 12: the user of the proxy, root and those named are served; and the kernel is asked once."""
    asked = []

    def say(peer: Address, ours: Address) -> int | None:
        asked.append((peer, ours))
        return owner

    users = LocalUsers(say)
    users.more = frozenset({NOBODY + 1})
    tool = client()
    assert users.stranger(tool) == users.stranger(tool) == stranger
    assert asked == [(("127.0.0.1", 4711), ("127.0.0.1", 8080))]


@pytest.mark.parametrize(
    "tool",
    [
        client("192.0.2.7"),
        client("fe80::1%lo"),
        client(mode="transparent"),
        client(mode="local"),
        client("", "regular"),
    ],
    ids=["remote", "link-local", "transparent", "local", "no address"],
)
def test_where_there_is_nobody_to_ask_about(tool: connection.Client) -> None:
    """A remote client is a matter of ``pool_allow_remote``, and the kernel's redirections come from no local port."""

    def never(peer: Address, ours: Address) -> int | None:
        raise AssertionError("not to be asked")

    assert LocalUsers(never).stranger(tool) == ""


@pytest.mark.parametrize(
    ("owner", "tool", "another"),
    [
        (os.getuid(), client(), False),
        (0, client(), False),
        (NOBODY + 1, client(), True),  # who is served, and is somebody else all the same
        (GONE, client(), True),
        (None, client(), False),  # who cannot be told
        (None, client("192.0.2.7"), True),
        (None, client("192.0.2.7", "local"), False),
    ],
)
def test_h12_whose_calls_a_drill_leaves_alone(owner: int | None, tool: connection.Client, another: bool) -> None:
    """H12: those of other users that are served, and of other machines."""
    users = LocalUsers(lambda peer, ours: owner)
    users.more = frozenset({NOBODY + 1})
    assert users.is_another(tool) is another


def test_users_by_name_and_number() -> None:
    assert user_ids(["0", "4711"]) == {0, 4711}
    with pytest.raises(ValueError, match=r"no user 'no-such-user-here'"):
        user_ids(["no-such-user-here"])


@linux
def test_users_by_name() -> None:
    assert user_ids(["root"]) == {0}
