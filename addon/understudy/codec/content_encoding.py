"""Undo a content encoding while the bytes come in, with a bound on what comes out.

Replies are judged decoded and released as they came, so this is a second look at the bytes, never the path they take.
A compressed kilobyte can stand for a gigabyte, hence every decoder has a limit. The libraries are the ones that
mitmproxy itself depends on: Brotli, and for zstd ``zstandard`` (mitmproxy 12.0 to 12.2), ``backports.zstd``
(from 12.3) or the standard library (from Python 3.14).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from typing import Any, Protocol

REQUEST_LIMIT = 64 * 1024 * 1024
"""The largest request body, in decoded bytes, that is looked into, unless an option says otherwise."""
MOST_ENCODINGS = 3
"""How many encodings on top of each other a request may have; no tool is known to send more than one."""

_STEP = 1024 * 1024
"""Output per step: what a body stands for is never there twice, and a bomb ends at its limit."""
_SLICE = 256 * 1024
"""Input per step: libraries copy what they could not take yet."""
_ZSTD_WINDOW_LOG = 23
"""8 MiB, the largest window that a zstd content encoding may ask for (RFC 9659)."""
_ZSTD_SLICE = 256
"""Input per step where a library cannot bound its output: a zstd block of 4 bytes stands for up to 128 KiB."""
_BROTLI_SLICE = 16
"""The same for Brotli before 1.2, where some dozen bytes stand for up to 16 MiB."""


class _Frame(Protocol):
    """One compressed frame (gzip member, zstd frame). ``write`` raises one of many errors on broken input."""

    ended: bool = False
    rest: bytes = b""
    """What follows the end of the frame."""
    more: bool = False
    """Whether there is more output to be had, by writing b"", before any further input. Of no account at its end."""

    def write(self, data: bytes, most: int) -> bytes:
        """Take all of ``data``; decode as much as gives about ``most`` bytes."""
        ...


class Decoder:
    """Decode one body of a given Content-Encoding, at most ``limit`` bytes of it.

    ``failed``: the encoding is unknown or the bytes are broken; ``exceeded``: there was more than ``limit`` (what
    was returned is cut there). After either ``feed`` returns b"". Several encodings on top of each other, which no
    vendor sends, count as unknown here; for requests see :func:`decode_request`.
    """

    def __init__(self, content_encoding: str, limit: int) -> None:
        names = [name.strip().lower() for name in content_encoding.split(",")]
        names = [name for name in names if name not in ("", "identity", "none")]
        self.identity = not names
        self.exceeded = False
        self._room = limit
        self._make: Callable[[], _Frame] | None = None
        self._frame: _Frame | None = None
        self._between = False  # whether a frame has ended, and what follows it has given nothing
        self._padding = False  # what comes now is no frame any more
        self._in_rows = names in (["gzip"], ["x-gzip"], ["zstd"])  # the formats that allow frames in a row
        if len(names) == 1:
            self._make = _FRAMES.get(names[0])
        self.is_known = self.identity or self._make is not None
        """Whether the encoding is one that can be undone."""
        self.failed = not self.is_known

    @property
    def complete(self) -> bool:
        """Whether the bytes so far are a whole body: not cut in the middle of a frame, and nothing went wrong."""
        return not self.failed and not self.exceeded and (self.identity or self._between)

    def feed(self, data: bytes) -> bytes:
        """Decode the next bytes. Never raises."""
        if self.identity:
            if len(data) <= self._room:  # it has none left once it has exceeded it
                self._room -= len(data)
                return data
            return self._bounded(data)
        decoded = bytearray()
        self.feed_into(decoded, data)
        return bytes(decoded)

    def feed_into(self, decoded: bytearray, data: bytes) -> None:
        """As :meth:`feed`, with what was decoded appended to ``decoded``: nothing of it is there twice."""
        self.feed_to(decoded.extend, data)

    def feed_to(self, write: Callable[[bytes], object], data: bytes) -> None:
        """The same, with each piece given to ``write``."""
        if self.identity:
            write(self.feed(data))
            return
        for at in range(0, len(data), _SLICE):
            slice_ = data[at : at + _SLICE]
            while (slice_ or self._has_more) and not self.failed and not self.exceeded and not self._padding:
                piece, slice_ = self._step(slice_)
                write(self._bounded(piece))

    @property
    def _has_more(self) -> bool:
        return self._frame is not None and self._frame.more

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode into the current frame; return (decoded, what belongs to the next frame)."""
        try:
            if self._frame is None:
                assert self._make is not None
                self._frame = self._make()
            piece = self._frame.write(data, min(self._room + 1, _STEP))
            ended, rest = self._frame.ended, self._frame.rest
        except Exception:  # zlib, brotli and three zstd libraries have an error class each, and MemoryError is possible
            # Bytes behind the last frame that are no frame themselves are padding, which every client ignores.
            self._padding = self._between
            self.failed = not self._between
            return b"", b""
        self._between = ended or (self._between and not piece)
        if not ended:
            return piece, b""
        self._frame = None
        self._padding = not self._in_rows
        return piece, rest

    def _bounded(self, piece: bytes) -> bytes:
        if len(piece) > self._room:
            self.exceeded = True
            piece = piece[: self._room]
        self._room -= len(piece)
        return piece


def decode_request(body: bytes, content_encoding: str, limit: int | None = None) -> bytes | None:
    """Decode a whole request body, of which the encoding that is named last was applied last (RFC 9110, section 8.4).

    None if it is broken, cut, over ``limit`` bytes (default: ``REQUEST_LIMIT``), of an unknown encoding or of more than
    ``MOST_ENCODINGS``. Only what was encoded is measured: of a body that was not, the bytes are there already.
    """
    names = content_encoding.split(",") if content_encoding else []
    if len(names) > MOST_ENCODINGS:
        return None
    for name in reversed(names):
        decoder = Decoder(name, REQUEST_LIMIT if limit is None else limit)
        if decoder.identity:
            continue
        decoded = BytesIO()  # its value is no copy
        decoder.feed_to(decoded.write, body)
        if not decoder.complete and (body or decoder.failed):
            return None
        body = decoded.getvalue()
    return body


def decode_reply(body: bytes, content_encoding: str, limit: int) -> bytes | None:
    """Decode a whole reply body; None when its encoding cannot be undone, or it is over ``limit`` bytes."""
    if len(body) > limit:
        return None
    return decode_request(body, content_encoding, limit)


class _Zlib(_Frame):
    def __init__(self, window_bits: int) -> None:
        self._decompressor = zlib.decompressobj(window_bits)

    def write(self, data: bytes, most: int) -> bytes:
        left = self._decompressor.unconsumed_tail
        piece = self._decompressor.decompress(left + data if left else data, most)
        self.ended, self.rest = self._decompressor.eof, self._decompressor.unused_data
        # Output that did not fit may also be inside the decompressor, with all of the input taken.
        self.more = bool(self._decompressor.unconsumed_tail) or len(piece) >= most
        return piece


class _Deflate(_Frame):
    """``deflate`` is zlib by RFC 9110 and raw DEFLATE by the practice of some servers; the first two bytes tell."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: _Zlib | None = None

    def write(self, data: bytes, most: int) -> bytes:
        if self._inner is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return b""
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._inner = _Zlib(zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS)
        piece = self._inner.write(data, most)
        self.ended, self.rest, self.more = self._inner.ended, self._inner.rest, self._inner.more
        return piece


class _Brotli(_Frame):
    """Brotli has one frame only and does not say where it ended."""

    def __init__(self) -> None:
        self._left = b""
        self._decompressor: Any = import_module("brotli").Decompressor()

    def write(self, data: bytes, most: int) -> bytes:
        if _brotli_is_bounded(self._decompressor):
            piece: bytes = self._decompressor.process(data, output_buffer_limit=most)
            # As with zlib: all of the input may be taken and some output still be inside.
            self.more = not self._decompressor.can_accept_more_data() or len(piece) >= most
        else:
            piece, self._left = _in_slices(
                self._decompressor.process, self._left + data, most, _BROTLI_SLICE, self._is_finished
            )
            self.more = bool(self._left)
        self.ended = self._is_finished()
        return piece

    def _is_finished(self) -> bool:
        return bool(self._decompressor.is_finished())


class _ZstdStandardLibrary(_Frame):
    """``compression.zstd`` and its backport."""

    def __init__(self, module: Any) -> None:
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._decompressor: Any = module.ZstdDecompressor(options=options)

    def write(self, data: bytes, most: int) -> bytes:
        piece: bytes = self._decompressor.decompress(data, most)
        self.ended = bool(self._decompressor.eof)
        self.more = not self._decompressor.needs_input
        self.rest = bytes(self._decompressor.unused_data) if self.ended else b""
        return piece


class _Zstandard(_Frame):
    """The ``zstandard`` package, whose incremental decoder has no bound on its output."""

    def __init__(self, module: Any) -> None:
        decompressor = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
        self._decompressor: Any = decompressor.decompressobj()
        self._left = b""

    def write(self, data: bytes, most: int) -> bytes:
        def step(piece: bytes) -> bytes:
            return bytes(self._decompressor.decompress(piece))

        decoded, self._left = _in_slices(step, self._left + data, most, _ZSTD_SLICE, self._is_finished)
        self.ended, self.more = self._is_finished(), bool(self._left)
        self.rest = bytes(self._decompressor.unused_data) + self._left if self.ended else b""
        return decoded

    def _is_finished(self) -> bool:
        return bool(self._decompressor.eof)


def _in_slices(
    step: Callable[[bytes], bytes], data: bytes, most: int, size: int, finished: Callable[[], bool]
) -> tuple[bytes, bytes]:
    """What was decoded until there was enough, and the input that is left."""
    pieces: list[bytes] = []
    got = at = 0
    while at < len(data) and got < most and not finished():
        pieces.append(step(data[at : at + size]))
        got += len(pieces[-1])
        at += size
    return b"".join(pieces), data[at:]


def _brotli_is_bounded(decompressor: Any) -> bool:
    return hasattr(decompressor, "can_accept_more_data")  # came together with output_buffer_limit


@cache
def _zstd_library() -> Callable[[], _Frame]:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return partial(_ZstdStandardLibrary, import_module(name))
        except ImportError:
            continue
    return partial(_Zstandard, import_module("zstandard"))


_FRAMES: dict[str, Callable[[], _Frame]] = {
    "gzip": lambda: _Zlib(32 + zlib.MAX_WBITS),  # 32: servers that send zlib under this name are understood as well
    "x-gzip": lambda: _Zlib(32 + zlib.MAX_WBITS),
    "deflate": _Deflate,
    "br": _Brotli,
    "zstd": lambda: _zstd_library()(),
}
