"""What the scriptable upstream can do with a request: answer, err, stall, lie about lengths, or break off.

A behaviour is written against ``Channel``, the way back to the client, and so works the same over HTTP/1.1 and HTTP/2.
"""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import override

import brotli
import zstandard

Headers = Sequence[tuple[str, str]]

CREDENTIAL_HEADERS = ("authorization", "x-api-key", "x-goog-api-key", "api-key")


@dataclass(eq=False)
class Seen:
    """One request as the upstream received it.

    ``path`` has its query; ``headers`` are in order and as spelled (HTTP/2: with pseudo-headers); ``body`` is still
    encoded; ``http_version`` is "HTTP/1.1" or "HTTP/2"; ``connection`` numbers the TCP connections from 1;
    ``server_name`` is the SNI ("" without TLS); ``time`` is the event loop's clock in seconds. ``cancelled`` turns
    true when the client gave up before the behaviour had finished, ``finished`` when the behaviour has. Nothing else
    changes, so ``credential`` and ``json`` are worked out once: a stage asks every request of the session for them.
    """

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    http_version: str
    connection: int
    server_name: str = ""
    time: float = 0.0
    cancelled: bool = False
    finished: bool = False

    def header(self, name: str) -> str:
        """The first value of a header, "" without one."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    @cached_property
    def credential(self) -> str:
        """The secret the request carries, without "Bearer "; "" without one."""
        values = [value for key, value in self.headers if key.lower() in CREDENTIAL_HEADERS]
        query = self.path.partition("?")[2].split("&")
        values += [part.removeprefix("key=") for part in query if part.startswith("key=")]
        return values[0].removeprefix("Bearer ") if values else ""

    @cached_property
    def json(self) -> dict[str, object]:
        """The body as a JSON object. Raises ValueError when it is none."""
        try:
            value = json.loads(self.body)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(value, dict):
            raise ValueError(f"not an object: {value!r}")
        return value


class Break(Enum):
    """How a connection is broken off."""

    CLOSE = "close"  # a TCP close, over TLS with its closing alert
    RESET = "reset"  # a TCP reset
    STREAM = "stream"  # HTTP/2: only this stream is reset; HTTP/1.1: as CLOSE
    GOAWAY = "goaway"  # HTTP/2: a GOAWAY with an error, then as CLOSE; HTTP/1.1: as CLOSE


class Channel(ABC):
    """The way back to the client for one request."""

    @abstractmethod
    async def head(self, status: int, headers: Headers) -> None:
        """Send status and headers. Without content-length the body is chunked (HTTP/1.1)."""

    @abstractmethod
    async def data(self, chunk: bytes) -> None:
        """Send a part of the body."""

    @abstractmethod
    async def end(self) -> None:
        """End the reply properly."""

    @abstractmethod
    async def more_head(self, status: int) -> None:
        """Begin a head, or go on with it, without ever ending it."""

    async def verbatim(self, data: bytes) -> None:
        """Put bytes on the wire that are no part of anything."""
        raise NotImplementedError("spoken over HTTP/1.1 only")

    async def goodbye(self) -> None:
        """Announce that no request which begins from now on is served on the connection, and go on."""
        raise NotImplementedError("spoken over HTTP/2 only")

    @abstractmethod
    async def break_off(self, how: Break) -> None:
        """Break off at once."""


Behaviour = Callable[[Channel, Seen], Awaitable[None]]


class Gate:
    """A place where a reply stops until the test lets it go on, so that no test has to sleep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._reached = threading.Event()

    def open(self) -> None:
        """Let everything pass, now and later. To be called by the test."""
        with self._lock:
            self._open = True
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)
            self._waiting.clear()

    def wait_reached(self, timeout: float = 10.0) -> None:
        """Wait until a reply stands at the gate. Raises TimeoutError after ``timeout`` seconds."""
        if not self._reached.wait(timeout):
            raise TimeoutError("no reply came to the gate")

    async def passed(self) -> None:
        """Wait for ``open``. Called by the upstream."""
        event = asyncio.Event()
        with self._lock:
            if self._open:
                event.set()
            else:
                self._waiting.append((asyncio.get_running_loop(), event))
        self._reached.set()
        await event.wait()


def raw(status: int, headers: Headers = (), body: bytes = b"", *, gate: Gate | None = None) -> Behaviour:
    """A whole reply, with a content-length unless there is one; ``gate`` holds it back before its headers."""

    async def behave(channel: Channel, seen: Seen) -> None:
        if gate:
            await gate.passed()
        lengths = [] if _has(headers, "content-length") else [("content-length", str(len(body)))]
        await channel.head(status, [*headers, *lengths])
        if body:
            await channel.data(body)
        await channel.end()

    return behave


def json_reply(status: int, value: object, headers: Headers = (), *, gate: Gate | None = None) -> Behaviour:
    """A whole reply in JSON."""
    body = json.dumps(value).encode()
    return raw(status, [("content-type", "application/json"), *headers], body, gate=gate)


def encoded(status: int, value: object, encoding: str, headers: Headers = ()) -> Behaviour:
    """A whole JSON reply in a content encoding: "gzip", "br" or "zstd"."""
    encoder = encoder_of(encoding)
    body = encoder.encode(json.dumps(value).encode()) + encoder.finish()
    return raw(status, [("content-type", "application/json"), ("content-encoding", encoding), *headers], body)


def sse(
    *steps: bytes | Gate,
    status: int = 200,
    headers: Headers = (),
    encoding: str = "",
    ending: Break | None = None,
) -> Behaviour:
    """An event stream: each ``bytes`` is sent at once and by itself, each ``Gate`` stops it until it is opened.

    ``encoding`` compresses it, flushed after each step. ``ending``: broken off instead of ended.
    """

    async def behave(channel: Channel, seen: Seen) -> None:
        encoder = encoder_of(encoding)
        extra = [("content-encoding", encoding)] if encoding else []
        await channel.head(status, [("content-type", "text/event-stream"), *extra, *headers])
        for step in steps:
            if isinstance(step, Gate):
                await step.passed()
            else:
                await channel.data(encoder.encode(step))
        if ending is not None:
            await channel.break_off(ending)
            return
        if last := encoder.finish():
            await channel.data(last)
        await channel.end()

    return behave


def drop_before_headers(how: Break = Break.CLOSE, *, gate: Gate | None = None) -> Behaviour:
    """Break off without a byte of a reply, once ``gate`` is open."""

    async def behave(channel: Channel, seen: Seen) -> None:
        if gate:
            await gate.passed()
        await channel.break_off(how)

    return behave


def drop_after_headers(
    status: int = 200, headers: Headers = (), part: bytes = b"", how: Break = Break.CLOSE
) -> Behaviour:
    """Break off after the headers and ``part`` of the body."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await channel.head(status, headers)
        if part:
            await channel.data(part)
        await channel.break_off(how)

    return behave


def chunks(status: int, headers: Headers, *steps: bytes | Gate) -> Behaviour:
    """A body without a length: each ``bytes`` is sent by itself, each ``Gate`` stops it until it is opened."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await channel.head(status, headers)
        for step in steps:
            if isinstance(step, Gate):
                await step.passed()
            else:
                await channel.data(step)
        await channel.end()

    return behave


def verbatim(*parts: bytes) -> Behaviour:
    """HTTP/1.1 only: these very bytes instead of a reply, then a close."""

    async def behave(channel: Channel, seen: Seen) -> None:
        for part in parts:
            await channel.verbatim(part)
        await channel.break_off(Break.CLOSE)

    return behave


def answer_and_close(status: int, value: object, how: Break = Break.CLOSE) -> Behaviour:
    """A whole JSON reply, after which the connection is closed without having been announced."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await json_reply(status, value)(channel, seen)
        await channel.break_off(how)

    return behave


def silent() -> Behaviour:
    """Never answer. Ends when the client gives up, which ``Seen.cancelled`` then says."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await asyncio.Event().wait()

    return behave


def silent_after(status: int, headers: Headers, part: bytes = b"") -> Behaviour:
    """Headers and a part of the body, then nothing until the client gives up."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await channel.head(status, headers)
        if part:
            await channel.data(part)
        await asyncio.Event().wait()

    return behave


def wrong_length(status: int, body: bytes, declared: int, headers: Headers = ()) -> Behaviour:
    """A content-length that does not fit the body; the connection is closed after it."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await channel.head(status, [*headers, ("content-length", str(declared))])
        await channel.data(body)
        await channel.break_off(Break.CLOSE)

    return behave


def echo_credential(status: int = 401) -> Behaviour:
    """An error whose body repeats the credential it received, as some vendors do."""

    async def behave(channel: Channel, seen: Seen) -> None:
        message = f"Incorrect API key provided: {seen.credential}."
        error = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
        await json_reply(status, error)(channel, seen)

    return behave


def redirect(location: str, status: int = 307) -> Behaviour:
    """Send the client elsewhere."""
    return raw(status, [("location", location)])


def endless_headers(status: int = 200) -> Behaviour:
    """A head that never ends, until the client gives up."""

    async def behave(channel: Channel, seen: Seen) -> None:
        while True:
            await channel.more_head(status)

    return behave


def endless_body(status: int = 200, headers: Headers = (), chunk: bytes = b" " * 65536) -> Behaviour:
    """A body that never ends, until the client gives up."""

    async def behave(channel: Channel, seen: Seen) -> None:
        await channel.head(status, headers)
        while True:
            await channel.data(chunk)

    return behave


class Encoder(ABC):
    """A content encoding that can be written piece by piece."""

    @abstractmethod
    def encode(self, data: bytes) -> bytes:
        """The bytes with which a reader can decode everything up to the end of ``data``."""

    @abstractmethod
    def finish(self) -> bytes:
        """The bytes that end it."""


class Identity(Encoder):
    """No encoding."""

    @override
    def encode(self, data: bytes) -> bytes:
        return data

    @override
    def finish(self) -> bytes:
        return b""


class Gzip(Encoder):
    """RFC 1952."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(wbits=31)

    @override
    def encode(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    @override
    def finish(self) -> bytes:
        return self._compressor.flush()


class Brotli(Encoder):
    """RFC 7932."""

    def __init__(self) -> None:
        self._compressor = brotli.Compressor(quality=5)  # the default takes seconds for a large body

    @override
    def encode(self, data: bytes) -> bytes:
        return bytes(self._compressor.process(data) + self._compressor.flush())

    @override
    def finish(self) -> bytes:
        return bytes(self._compressor.finish())


class Zstandard(Encoder):
    """RFC 8878."""

    def __init__(self) -> None:
        self._compressor = zstandard.ZstdCompressor().compressobj()

    @override
    def encode(self, data: bytes) -> bytes:
        return self._compressor.compress(data) + self._compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    @override
    def finish(self) -> bytes:
        return self._compressor.flush()


_ENCODERS: dict[str, type[Encoder]] = {"": Identity, "gzip": Gzip, "br": Brotli, "zstd": Zstandard}


def encoder_of(encoding: str) -> Encoder:
    """An encoder by the name of the content encoding; "" changes nothing. Raises KeyError."""
    return _ENCODERS[encoding]()


def _has(headers: Headers, name: str) -> bool:
    return any(key.lower() == name for key, _ in headers)
