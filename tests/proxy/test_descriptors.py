"""H10: a process without a file descriptor refuses connections, says so once, and goes on."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import sys
from contextlib import closing
from typing import Any

import pytest

from understudy.proxy import descriptors, socket_owner
from understudy.proxy.descriptors import QUIET, Descriptors

FULL = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


class Listening:
    """As asyncio's ``TransportSocket``."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock


def test_h10_what_waits_is_refused_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """H10: each report refuses one connection, whose tool then sees it closed; a minute later it is said again."""
    caplog.set_level(logging.INFO)
    now = [0.0]
    heard: list[dict[str, Any]] = []

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        before = lambda _, context: heard.append(context)  # noqa: E731
        loop.set_exception_handler(before)
        watch = Descriptors(lambda: now[0])
        watch.open(loop)
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            server.setblocking(False)
            tools = [socket.create_connection(server.getsockname()) for _ in range(3)]
            for _ in range(5):  # asyncio reports until nobody waits, and then some
                loop.call_exception_handler({"message": "full", "exception": FULL, "socket": Listening(server)})
            for tool in tools:
                with closing(tool):
                    tool.settimeout(5)
                    assert tool.recv(1) == b""
            now[0] += QUIET
            loop.call_exception_handler({"message": "full", "exception": FULL, "socket": Listening(server)})
        loop.call_exception_handler({"message": "another"})
        loop.call_exception_handler({"message": "a file", "exception": FULL})
        watch.close()
        assert loop.get_exception_handler() is before
        assert watch._reserve is None

    asyncio.run(scene())
    assert [record.message for record in caplog.records] == [descriptors.SAID.format(error=FULL.strerror)] * 2
    assert [context["message"] for context in heard] == ["another", "a file"]


def test_h10_nobody_is_served_unasked_for_want_of_a_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """H10, law 12: who uses up the descriptors must not be taken for the owner."""

    def full(*_: object) -> int:
        raise FULL

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(socket_owner, "_ask_kernel", full)
    assert socket_owner.owner_of(("127.0.0.1", 1), ("127.0.0.1", 2)) == socket_owner.UNTOLD
