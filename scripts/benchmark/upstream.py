"""The upstream as a program of its own: small JSON answers, refusals, and event streams with a time in every event.

``python -m benchmark.upstream`` prints ``PORT REFUSING_PORT`` and ends when its standard input does. The second port
refuses every call; on the first a streamed call is answered as its body asks (see ``messages.stream_body``).
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import override

from benchmark import messages

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BEFORE = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"stream-model","t":'
WORD = b',"choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}\n\n'
ROLE = b',"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
LAST = b"data: [DONE]\n\n"
BATCH = 20
"""Events in one write at full speed."""
SETTLE = 0.1
"""Seconds between the opening of the last stream of a group and the flood."""

Groups = dict[str, list["Server"]]


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(rest: bytes) -> bytes:
    """One event with the time of its sending, in ns of the monotonic clock that all processes share."""
    return chunk(BEFORE + str(time.monotonic_ns()).encode() + rest)


def whole(status: bytes, body: str) -> bytes:
    """A reply with a JSON body."""
    content = body.encode()
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(content))
    return head + content


ANSWER = whole(b"200 OK", messages.ANSWER)
REFUSAL = whole(b"404 Not Found", messages.REFUSAL)


class Server(asyncio.Protocol):
    """One connection."""

    def __init__(self, groups: Groups, reply: bytes) -> None:
        self.groups = groups
        self.reply = reply
        self.buffer = b""
        self.left = 0
        self.flooding = self.paused = False
        self.timer: asyncio.TimerHandle | None = None
        self.transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.left = 0
        if self.timer is not None:
            self.timer.cancel()

    @override
    def pause_writing(self) -> None:
        self.paused = True

    @override
    def resume_writing(self) -> None:
        self.paused = False
        if self.flooding:
            self.flood()

    @override
    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(HEAD_END)) >= 0:
            found = LENGTH.search(self.buffer, 0, end)
            size = end + len(HEAD_END) + (int(found[1]) if found else 0)
            if len(self.buffer) < size:
                return
            body, self.buffer = self.buffer[end + len(HEAD_END) : size], self.buffer[size:]
            if self.reply is ANSWER and b'"benchmark"' in body:
                self.open(json.loads(body)["benchmark"])
            else:
                self.transport.write(self.reply)

    def open(self, wanted: dict[str, object]) -> None:
        """Begin a stream with the two events that every chat stream begins with."""
        self.left = int(str(wanted["events"]))
        rate, size = float(str(wanted["rate"])), int(str(wanted["size"]))
        self.transport.write(STREAM_HEAD + event(ROLE) + event(WORD))
        loop = asyncio.get_running_loop()
        if rate:
            self.timer = loop.call_later(1 / rate, self.tick, loop.time() + 1 / rate, 1 / rate)
            return
        group = self.groups.setdefault(str(wanted["group"]), [])
        group.append(self)
        if len(group) >= size:
            del self.groups[str(wanted["group"])]
            for stream in group:
                stream.timer = loop.call_later(SETTLE, stream.flood)

    def tick(self, due: float, pause: float) -> None:
        """Send one event of a paced stream."""
        if self.left <= 0:
            self.transport.write(chunk(LAST) + b"0\r\n\r\n")
            return
        self.left -= 1
        self.transport.write(event(WORD))
        due += pause
        self.timer = asyncio.get_running_loop().call_at(due, self.tick, due, pause)

    def flood(self) -> None:
        """Send events as fast as they are taken."""
        self.flooding = True
        while self.left > 0 and not self.paused:
            count = min(BATCH, self.left)
            self.left -= count
            self.transport.write(b"".join(event(WORD) for _ in range(count)))
        if self.left <= 0:
            self.flooding = False
            self.transport.write(chunk(LAST) + b"0\r\n\r\n")


async def serve() -> None:
    """Listen until standard input ends."""
    loop = asyncio.get_running_loop()
    groups: Groups = {}
    working = await loop.create_server(lambda: Server(groups, ANSWER), "127.0.0.1", 0, backlog=1024)
    refusing = await loop.create_server(lambda: Server(groups, REFUSAL), "127.0.0.1", 0, backlog=1024)
    print(working.sockets[0].getsockname()[1], refusing.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
