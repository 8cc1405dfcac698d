"""A blocking connection for one call at a time: it adds the least to what it measures."""

from __future__ import annotations

import socket
import time

from benchmark import messages
from benchmark.processes import BenchmarkError


class Caller:
    """To be used in a ``with``."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), 20.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Caller:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def call(self, alias: str, status: bytes) -> float:
        """Make one call; returns its microseconds. Raises BenchmarkError when it gets another status, or none."""
        request = messages.request(self.port, messages.call_body(alias))
        reply = b""
        begun = time.perf_counter_ns()
        try:
            self._socket.sendall(request)
            while not _complete(reply):
                data = self._socket.recv(65536)
                if not data:
                    raise BenchmarkError(f"a call of {alias} was cut after {reply[:500]!r}")
                reply += data
        except OSError as error:
            raise BenchmarkError(f"a call of {alias} failed: {error}") from None
        took = (time.perf_counter_ns() - begun) / 1000
        if not reply.startswith(b"HTTP/1.1 " + status):
            raise BenchmarkError(f"a call of {alias} was answered {reply[:500]!r}")
        return took


def _complete(reply: bytes) -> bool:
    head, end, body = reply.partition(b"\r\n\r\n")
    _, named, rest = head.lower().partition(b"\r\ncontent-length:")
    return bool(end and named) and len(body) >= int(rest.split(b"\r\n")[0])
