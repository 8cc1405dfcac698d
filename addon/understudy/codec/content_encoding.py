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
from typing import Any, Protocol

REQUEST_LIMIT = 256 * 1024 * 1024
"""The largest request body, in decoded bytes, that is looked into."""
MOST_ENCODINGS = 3
"""How many encodings on top of each other a request may have; no tool is known to send more than one."""

_ZSTD_WINDOW_LOG = 23
"""8 MiB, the largest window that a zstd content encoding may ask for (RFC 9659)."""
_ZSTD_SLICE = 256
"""Input per step where a library cannot bound its output: a zstd block of 4 bytes stands for up to 128 KiB."""
_BROTLI_SLICE = 16
"""The same for Brotli before 1.2, where some dozen bytes stand for up to 16 MiB."""


class _Frame(Protocol):
    """One compressed frame (gzip member, zstd frame). ``write`` raises one of many errors on broken input."""

    ended: bool
    rest: bytes
    """What follows the end of the frame."""

    def write(self, data: bytes, most: int) -> bytes:
        """Decode all of ``data``, or as much of it as gives ``most`` bytes."""
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
        self.failed = False
        self.exceeded = False
        self._room = limit
        self._make: Callable[[], _Frame] | None = None
        self._frame: _Frame | None = None
        self._frames = 0  # frames that have ended
        self._silent = True  # whether the current frame has given nothing yet
        self._padding = False  # what comes now is no frame any more
        self._in_rows = names[:1] in (["gzip"], ["x-gzip"], ["zstd"])  # the formats that allow frames in a row
        if not self.identity:
            self._make = _FRAMES.get(names[0]) if len(names) == 1 else None
            self.failed = self._make is None

    @property
    def complete(self) -> bool:
        """Whether the bytes so far are a whole body: not cut in the middle of a frame, and nothing went wrong."""
        between_frames = self._frames > 0 and (self._frame is None or self._silent)
        return not self.failed and not self.exceeded and (self.identity or between_frames)

    def feed(self, data: bytes) -> bytes:
        """Decode the next bytes. Never raises."""
        if self.failed or self.exceeded or not data:
            return b""
        if self.identity:
            return self._bounded(data)
        pieces: list[bytes] = []
        while data and not self.failed and not self.exceeded and not self._padding:
            piece, data = self._step(data)
            pieces.append(self._bounded(piece))
        return b"".join(pieces)

    def _step(self, data: bytes) -> tuple[bytes, bytes]:
        """Decode into the current frame; return (decoded, what belongs to the next frame)."""
        try:
            if self._frame is None:
                assert self._make is not None
                self._frame, self._silent = self._make(), True
            piece = self._frame.write(data, self._room + 1)
            ended, rest = self._frame.ended, self._frame.rest
        except Exception:  # zlib, brotli and three zstd libraries have an error class each, and MemoryError is possible
            # Bytes behind the last frame that are no frame themselves are padding, which every client ignores.
            self._padding = self._frames > 0 and self._silent
            self.failed = not self._padding
            return b"", b""
        self._silent = self._silent and not piece
        if not ended:
            return piece, b""
        self._frame = None
        self._frames += 1
        self._padding = not self._in_rows
        return piece, rest

    def _bounded(self, piece: bytes) -> bytes:
        if len(piece) > self._room:
            self.exceeded = True
            piece = piece[: self._room]
        self._room -= len(piece)
        return piece


def decode_request(body: bytes, content_encoding: str) -> bytes | None:
    """Decode a whole request body, of which the encoding that is named last was applied last (RFC 9110, section 8.4).

    None if it is broken, cut, over ``REQUEST_LIMIT``, of an unknown encoding or of more than ``MOST_ENCODINGS``.
    """
    names = content_encoding.split(",") if content_encoding else []
    if len(names) > MOST_ENCODINGS:
        return None
    for name in reversed(names):
        decoder = Decoder(name, REQUEST_LIMIT)
        if decoder.identity:
            continue
        decoded = decoder.feed(body)
        if not decoder.complete and (body or decoder.failed):
            return None
        body = decoded
    return body


class _Zlib:
    def __init__(self, window_bits: int) -> None:
        self.ended = False
        self.rest = b""
        self._decompressor = zlib.decompressobj(window_bits)

    def write(self, data: bytes, most: int) -> bytes:
        piece = self._decompressor.decompress(data, most)
        self.ended, self.rest = self._decompressor.eof, self._decompressor.unused_data
        return piece


class _Deflate:
    """``deflate`` is zlib by RFC 9110 and raw DEFLATE by the practice of some servers; the first two bytes tell."""

    def __init__(self) -> None:
        self.ended = False
        self.rest = b""
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
        self.ended, self.rest = self._inner.ended, self._inner.rest
        return piece


class _Brotli:
    def __init__(self) -> None:
        self.ended = False
        self.rest = b""  # Brotli has one frame only and does not say where it ended
        self._decompressor: Any = import_module("brotli").Decompressor()

    def write(self, data: bytes, most: int) -> bytes:
        if _brotli_is_bounded(self._decompressor):
            piece: bytes = self._decompressor.process(data, output_buffer_limit=most)
        else:
            piece = _in_slices(self._decompressor.process, data, most, _BROTLI_SLICE, self._is_finished)
        self.ended = self._is_finished()
        return piece

    def _is_finished(self) -> bool:
        return bool(self._decompressor.is_finished())


class _ZstdStandardLibrary:
    """``compression.zstd`` and its backport."""

    def __init__(self, module: Any) -> None:
        self.ended = False
        self.rest = b""
        options = {module.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._decompressor: Any = module.ZstdDecompressor(options=options)

    def write(self, data: bytes, most: int) -> bytes:
        piece: bytes = self._decompressor.decompress(data, most)
        self.ended = bool(self._decompressor.eof)
        self.rest = bytes(self._decompressor.unused_data) if self.ended else b""
        return piece


class _Zstandard:
    """The ``zstandard`` package, whose incremental decoder has no bound on its output."""

    def __init__(self, module: Any) -> None:
        self.ended = False
        self.rest = b""
        decompressor = module.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
        self._decompressor: Any = decompressor.decompressobj()

    def write(self, data: bytes, most: int) -> bytes:
        taken = 0

        def step(piece: bytes) -> bytes:
            nonlocal taken
            taken += len(piece)
            return bytes(self._decompressor.decompress(piece))

        decoded = _in_slices(step, data, most, _ZSTD_SLICE, self._is_finished)
        self.ended = self._is_finished()
        if self.ended:
            self.rest = bytes(self._decompressor.unused_data) + data[taken:]
        return decoded

    def _is_finished(self) -> bool:
        return bool(self._decompressor.eof)


def _in_slices(
    step: Callable[[bytes], bytes], data: bytes, most: int, size: int, finished: Callable[[], bool]
) -> bytes:
    pieces: list[bytes] = []
    got = 0
    for at in range(0, len(data), size):
        if got >= most or finished():
            break
        pieces.append(step(data[at : at + size]))
        got += len(pieces[-1])
    return b"".join(pieces)


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
