"""Content decoding: any chunking, broken bytes, bombs, and each library that mitmproxy may bring."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec import content_encoding
from understudy.codec.content_encoding import Decoder, decode_reply, decode_request


def raw_deflate(data: bytes) -> bytes:
    """DEFLATE without the zlib frame."""
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def zstd_modules() -> Iterator[ModuleType]:
    """The zstd libraries of this environment: which ones depends on the Python and the mitmproxy that are tested."""
    for name in ("compression.zstd", "backports.zstd", "zstandard"):
        try:
            yield import_module(name)
        except ImportError:
            continue


def zstd(data: bytes) -> bytes:
    """Compress with the first library at hand."""
    result: bytes = next(zstd_modules()).compress(data)
    return result


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "x-gzip": lambda data: gzip.compress(data, mtime=0),
    "GZIP": zlib.compress,
    "deflate": zlib.compress,
    "Deflate": raw_deflate,
    "br": brotli.compress,
    "zstd": zstd,
    "identity": bytes,
    "": bytes,
}


@given(
    name=st.sampled_from(sorted(ENCODERS)),
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_any_chunking_gives_the_same_bytes(name: str, data: bytes, cuts: list[int]) -> None:
    """S08: every encoding a tool may ask for is undone while it comes in."""
    encoded = ENCODERS[name](data)
    cuts = sorted(min(cut, len(encoded)) for cut in cuts)
    decoder = Decoder(name, 1 << 20)
    got = b"".join(
        decoder.feed(encoded[start:end]) for start, end in zip([0, *cuts], [*cuts, len(encoded)], strict=True)
    )
    assert got == data
    assert not decoder.failed and not decoder.exceeded
    assert decoder.complete


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_what_is_flushed_can_be_seen(name: str) -> None:
    """S08: the first event of a compressed stream is readable before the stream ends."""
    event = b"event: message_start\n\n"
    start: bytes
    match name:
        case "br":
            compressor: Any = brotli.Compressor()
            start = compressor.process(event) + compressor.flush()
        case "zstd":
            start = flushed_zstd(event)
        case _:
            compressor = zlib.compressobj(wbits=31 if name == "gzip" else 15)
            start = compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)
    decoder = Decoder(name, 1 << 20)
    assert b"".join(decoder.feed(start[at : at + 1]) for at in range(len(start))) == event
    assert not decoder.complete


def flushed_zstd(data: bytes) -> bytes:
    """The beginning of a zstd frame that is not at its end."""
    library: Any = next(zstd_modules())
    if library.__name__ == "zstandard":
        writer = library.ZstdCompressor().compressobj()
        result: bytes = writer.compress(data) + writer.flush(library.COMPRESSOBJ_FLUSH_BLOCK)
        return result
    compressor = library.ZstdCompressor()
    flushed: bytes = compressor.compress(data) + compressor.flush(library.ZstdCompressor.FLUSH_BLOCK)
    return flushed


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_frames_in_a_row(name: str) -> None:
    encoded = ENCODERS[name](b"one ") + ENCODERS[name](b"two")
    assert Decoder(name, 100).feed(encoded) == b"one two"
    decoder = Decoder(name, 100)
    assert b"".join(decoder.feed(encoded[at : at + 1]) for at in range(len(encoded))) == b"one two"
    assert decoder.complete


@pytest.mark.parametrize("padding", [b"\0" * 10, b"junk", b"\n"])
@pytest.mark.parametrize("name", ["gzip", "zstd", "deflate"])
def test_padding_behind_the_last_frame_is_ignored(name: str, padding: bytes) -> None:
    decoder = Decoder(name, 100)
    assert decoder.feed(ENCODERS[name](b"one") + padding) == b"one"
    assert decoder.feed(padding) == b""
    assert not decoder.failed
    assert decoder.complete


@pytest.mark.parametrize("name", ["gzip", "br", "zstd", "deflate", "gzip, br", "compress", "gzip,gzip", "\x00"])
def test_broken_or_unknown_fails_without_an_exception(name: str) -> None:
    decoder = Decoder(name, 100)
    assert decoder.feed(b"\xff\xff\xff\xffnot this encoding at all") == b""
    assert decoder.failed
    assert not decoder.complete
    assert decoder.feed(gzip.compress(b"x")) == b""
    assert decode_request(b"\xff\xff\xff\xffnot this encoding at all", name) is None


@given(name=st.sampled_from(["gzip", "deflate", "br", "zstd"]), data=st.binary(max_size=60), limit=st.integers(0, 50))
def test_hostile_bytes_never_raise(name: str, data: bytes, limit: int) -> None:
    decoder = Decoder(name, limit)
    got = decoder.feed(data[:7]) + decoder.feed(data[7:])
    assert len(got) <= limit


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "identity"])
def test_output_ends_at_the_limit(name: str) -> None:
    data = bytes(range(256)) * 8
    exact = Decoder(name, len(data))
    assert exact.feed(ENCODERS[name](data)) == data
    assert not exact.exceeded and exact.complete
    decoder = Decoder(name, len(data) - 1)
    assert decoder.feed(ENCODERS[name](data)) == data[:-1]
    assert decoder.exceeded and not decoder.failed and not decoder.complete
    assert decoder.feed(b"more") == b""


@pytest.fixture(params=["as installed", "unbounded libraries"])
def libraries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run with what is installed, and as with Brotli before 1.2, which cannot bound its output."""
    installed = brotli.Decompressor

    class Older:
        def __init__(self) -> None:
            self._inner = installed()

        def process(self, data: bytes) -> bytes:
            piece: bytes = self._inner.process(data)
            return piece

        def is_finished(self) -> bool:
            return bool(self._inner.is_finished())

    if request.param == "unbounded libraries":
        monkeypatch.setattr(brotli, "Decompressor", Older)


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_costs_no_memory(name: str) -> None:
    """Law 10: 128 MiB of zeros in a few bytes are cut at the limit, with bounded memory on the way."""
    bomb = bombs(name)
    tracemalloc.start()
    try:
        decoder = Decoder(name, 100_000)
        assert decoder.feed(bomb) == b"\0" * 100_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoder.exceeded
    assert peak < 64 << 20


def bombs(name: str) -> bytes:
    """128 MiB of zeros, compressed piece by piece."""
    mebibyte = bytes(1 << 20)
    if name == "zstd":
        # One frame in which every block repeats a single byte (RFC 8878, 3.1.1.2): 4 bytes for 128 KiB.
        block = (128 << 10 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
        return b"\x28\xb5\x2f\xfd\x00\x58" + block * 1024
    if name == "br":
        writer: Any = brotli.Compressor(quality=1)
        return b"".join([*(writer.process(mebibyte) for _ in range(128)), writer.finish()])
    compressor = zlib.compressobj(wbits=31 if name == "gzip" else 15)
    return b"".join([*(compressor.compress(mebibyte) for _ in range(128)), compressor.flush()])


@pytest.mark.usefixtures("libraries")
def test_brotli_of_either_age() -> None:
    data = bytes(range(256)) * 300
    assert decode_request(brotli.compress(data), "br") == data


@pytest.mark.parametrize("library", list(zstd_modules()), ids=lambda library: str(library.__name__))
def test_every_zstd_library(library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """S08: zstd is undone with whichever library mitmproxy brings."""
    for name in ("compression.zstd", "backports.zstd"):
        if name != library.__name__:
            monkeypatch.setitem(sys.modules, name, None)
    content_encoding._zstd_library.cache_clear()
    try:
        data = bytes(range(256)) * 5000
        encoded = library.compress(data) + library.compress(b"tail")
        assert decode_request(encoded, "zstd") == data + b"tail"
        assert decode_request(encoded[:-1], "zstd") is None
        decoder = Decoder("zstd", 1000)
        assert decoder.feed(bombs("zstd")) == bytes(1000)
        # Frames that ask for a window of 8, 9, 16 and 128 MiB (RFC 8878, 3.1.1.1.2).
        block = (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"x"
        for window, well in (
            (b"\x68", True),
            (b"\x69", False),
            (b"\x70", False),
            (b"\x88", False),
        ):  # 8, 9, 16, 128 MiB
            greedy = Decoder("zstd", 1000)
            assert greedy.feed(b"\x28\xb5\x2f\xfd\x00" + window + block) == (b"x" if well else b"")
            assert greedy.failed is not well
        monkeypatch.setattr(content_encoding, "_STEP", 1000)
        monkeypatch.setattr(content_encoding, "_SLICE", 700)
        mixed = MIXED * 3
        assert decode_request(library.compress(mixed) * 2, "zstd") == mixed * 2
    finally:
        content_encoding._zstd_library.cache_clear()


MIXED = bytes(range(256)) + zlib.compress(bytes(range(256)) * 9) * 5 + b"a" * 3000 + b"ab" * 40
"""What is encoded in few bytes, and what is not."""


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("step", [1, 7, 300, 100_000])
@pytest.mark.parametrize("name", ["gzip", "deflate", "Deflate", "br", "zstd"])
def test_as_much_is_seen_as_has_come(name: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """S08: wherever the input was cut, no output waits for more of it, however small the steps are."""
    encoded = ENCODERS[name](MIXED)
    cuts = range(0, len(encoded) + 1, 1 if step == 7 else 29)
    seen = [Decoder(name, 1 << 20).feed(encoded[:cut]) for cut in cuts]
    monkeypatch.setattr(content_encoding, "_STEP", step)
    assert [Decoder(name, 1 << 20).feed(encoded[:cut]) for cut in cuts] == seen
    lengths = list(map(len, seen))
    assert lengths == sorted(lengths)
    if name in ("gzip", "deflate", "Deflate"):
        wbits = {"gzip": 31, "deflate": 15, "Deflate": -15}[name]
        assert seen[2:] == [zlib.decompressobj(wbits).decompress(encoded[:cut]) for cut in cuts[2:]]


@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        (b"\x08\x03\x00\xfc\xffabc\x03\x00", b"abc"),  # a stored block with a bit set in its padding
        (b"3\xb5\x00\x00", b"58"),  # a multiple of 31
        (zlib.compress(b"abc", 1), b"abc"),
        (zlib.compress(b"abc", 9), b"abc"),
    ],
)
def test_deflate_is_told_by_its_first_two_bytes(encoded: bytes, data: bytes) -> None:
    """RFC 1950, 2.2: the method is 8, and both bytes together are a multiple of 31: else it is no zlib."""
    assert decode_request(encoded, "deflate") == data


@pytest.mark.parametrize(
    ("name", "known"),
    [
        *((name, True) for name in ("", "identity", " None ,", "gzip", "Identity, br", "X-Gzip")),
        *((name, False) for name in ("sdch", "gzip, br", "gzip, gzip")),
    ],
)
def test_which_encodings_are_known(name: str, known: bool) -> None:
    decoder = Decoder(name, 100)
    assert decoder.is_known is known
    assert decoder.failed is not known
    decoder.feed(b"no such bytes at all")
    assert decoder.is_known is known


def test_what_is_not_encoded_is_bounded_too() -> None:
    decoder, found = Decoder("identity", 5), bytearray(b">")
    decoder.feed_into(found, b"abc")
    assert decoder.complete and not decoder.exceeded
    decoder.feed_into(found, b"def")
    decoder.feed_into(found, b"ghi")
    assert found == b">abcde"
    assert decoder.exceeded and not decoder.complete


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_between_frames_a_body_is_whole(name: str) -> None:
    """An empty frame is one; the beginning of another one is none until it has given something."""
    one, empty = ENCODERS[name](b"one"), ENCODERS[name](b"")
    states = [(one, True), (empty, True), (one[:3], True), (one[3:-1], False), (one[-1:], True)]
    decoder = Decoder(name, 100)
    assert not decoder.complete
    for data, whole in states:
        decoder.feed(data)
        assert decoder.complete is whole
    assert Decoder(name, 100).feed(empty) == b""


def test_a_second_frame_that_breaks_behind_its_output_is_no_padding() -> None:
    one = gzip.compress(b"one")
    decoder = Decoder("gzip", 100)
    assert decoder.feed(one + one[:-8]) == b"oneone"
    assert decoder.feed(b"no sums!") == b""
    assert decoder.failed and not decoder.complete


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_request_bodies(name: str) -> None:
    """R02: a compressed request body is decoded whole or not at all."""
    body = b'{"model": "a"}' * 1000
    encoded = ENCODERS[name](body)
    assert decode_request(encoded, name) == body
    assert decode_request(encoded[:-3], name) is None
    assert decode_request(b"", name) == b""


def test_request_bodies_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_encoding, "REQUEST_LIMIT", 1000)
    assert decode_request(gzip.compress(bytes(1000)), "gzip") == bytes(1000)
    assert decode_request(gzip.compress(bytes(1001)), "gzip") is None
    assert decode_request(bytes(1001), "identity") == bytes(1001)


@given(data=st.binary(max_size=200), names=st.lists(st.sampled_from([*ENCODERS, "identity"]), min_size=1, max_size=3))
def test_encodings_on_top_of_each_other(data: bytes, names: list[str]) -> None:
    """R02: a request's body is undone from the outside in; what is cut or has too many layers is not looked into."""
    encoded = data
    for name in names:
        encoded = encoded if name == "identity" else ENCODERS[name](encoded)
    assert decode_request(encoded, " , ".join(names)) == data
    assert decode_request(encoded, ", ".join([*names, "identity", "identity", "identity"])) is None
    if set(names) != {"identity"}:
        assert decode_request(encoded[:-1], ", ".join(names)) != data or not data


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_a_request_bomb_costs_its_limit_and_no_more(name: str) -> None:
    """H05: of what 128 MiB are sent for in a few bytes, no more is decoded than may be, and that once only."""
    bomb = bombs(name)
    tracemalloc.start()
    try:
        assert decode_request(bomb, name, 16 << 20) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Brotli before 1.2 gives up to 16 MiB in one piece.
    assert peak < (16 + 24) << 20


@pytest.mark.usefixtures("libraries")
@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_more_than_one_step_gives_every_byte(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps of output and input are no bound: what is longer comes whole."""
    monkeypatch.setattr(content_encoding, "_STEP", 1000)
    monkeypatch.setattr(content_encoding, "_SLICE", 300)
    data = bytes(range(256)) * 40 + zlib.compress(bytes(range(256))) * 20 + b"a" * 50_000
    encoded = ENCODERS[name](data)
    assert decode_request(encoded, name) == data
    assert Decoder(name, 1 << 20).feed(encoded) == data
    if name in ("gzip", "zstd"):
        assert decode_request(encoded + encoded, name) == data + data


def test_a_reply_is_decoded_within_its_limit() -> None:
    assert decode_reply(gzip.compress(bytes(1000)), "gzip", 1000) == bytes(1000)
    assert decode_reply(gzip.compress(bytes(1001)), "gzip", 1000) is None
    assert decode_reply(bytes(1000), "", 1000) == bytes(1000)
    assert decode_reply(bytes(1001), "", 1000) is None
    assert decode_reply(b"x", "no-such", 1000) is None
