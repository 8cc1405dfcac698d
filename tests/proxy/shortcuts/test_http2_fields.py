"""Header fields of HTTP/2 are read and written as by the library, with its errors, and without a trace afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import h2.utilities
import pytest
from h2.exceptions import ProtocolError
from hpack import Decoder, Encoder, hpack
from hpack.exceptions import HPACKDecodingError
from hpack.huffman import HuffmanEncoder
from hypothesis import given
from hypothesis import strategies as st

from understudy.proxy.shortcuts import http2_fields

THEIRS = getattr(h2.utilities, "_reject_illegal_characters", None)
DECODE, ENCODE = vars(hpack)["decode_huffman"], HuffmanEncoder.encode
REQUEST = h2.utilities.HeaderValidationFlags(False, False, False, False)
odd = st.sampled_from([b"", b"a", b":", b"A", b" ", b"\t", b"\r", b"\n", b"\0", b"\x7f", b"\xff", b"x-y", b"te"])
texts = st.one_of(st.binary(max_size=6), st.lists(odd, max_size=4).map(b"".join))


@pytest.fixture
def in_place() -> Iterator[None]:
    leave = http2_fields.install()
    yield
    leave()


def outcome(check: Callable[..., Iterator[object]], fields: list[tuple[bytes, bytes]]) -> list[object]:
    """What a check lets through, and the error that it ends with."""
    found: list[object] = []
    try:
        found.extend(iter(check(fields, REQUEST)))
    except ProtocolError as error:
        found.append(str(error))
    return found


@given(st.binary(max_size=300))
def test_text_is_encoded_and_decoded_as_by_the_library(text: bytes) -> None:
    """Every character, whatever length."""
    coder = Encoder().huffman_coder
    code = http2_fields.encode(coder, text)
    assert code == ENCODE(coder, text)
    assert DECODE(code) == text


def test_other_codes_are_the_librarys() -> None:
    """A coder with a table of its own, and what is no text."""
    coder = HuffmanEncoder([1] * 256, [3] * 256)
    assert http2_fields.encode(coder, b"ab") == ENCODE(coder, b"ab")
    assert http2_fields.encode(coder, None) == http2_fields.encode(coder, b"") == b""


@pytest.mark.usefixtures("in_place")
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=8), st.binary(max_size=40), st.booleans()), max_size=8))
def test_a_block_of_fields_comes_through(fields: list[tuple[bytes, bytes, bool]]) -> None:
    """Twice over one connection, also those that are never indexed."""
    encoder, decoder = Encoder(), Decoder()
    for _ in range(2):
        found = decoder.decode(encoder.encode(fields), raw=True)
        assert [tuple(each) for each in found] == [(name, value) for name, value, _ in fields]


@pytest.mark.usefixtures("in_place")
def test_a_code_that_is_none_is_an_error_each_time() -> None:
    """It is not remembered as something."""
    for _ in range(2):
        with pytest.raises(HPACKDecodingError):
            Decoder().decode(b"\x00\x01a\x84\xff\xff\xff\xff", raw=True)


@pytest.mark.usefixtures("in_place")
def test_what_comes_again_is_not_decoded_again() -> None:
    """Such as a credential that is never indexed."""
    block = Encoder().encode([(b"authorization", b"Bearer of a long token", True)])
    first = Decoder().decode(block, raw=True)
    cached = vars(hpack)["decode_huffman"]
    before = cached.cache_info()
    assert Decoder().decode(block, raw=True) == first
    assert cached.cache_info().misses == before.misses
    assert cached.cache_info().hits > before.hits
    assert cached.cache_info().maxsize == http2_fields._DECODED


def test_it_is_taken_out_without_a_trace() -> None:
    """Also when it was put in twice; what another has put in its place is left alone."""
    leave = http2_fields.install()
    assert vars(hpack)["decode_huffman"] is not DECODE
    assert HuffmanEncoder.encode is http2_fields.encode
    http2_fields.install()()
    assert HuffmanEncoder.encode is http2_fields.encode
    leave()
    assert vars(hpack)["decode_huffman"] is DECODE
    assert HuffmanEncoder.encode is ENCODE
    assert getattr(h2.utilities, "_reject_illegal_characters", None) is THEIRS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hpack, "decode_huffman", of_another := lambda _: b"")
        leave = http2_fields.install()
        assert vars(hpack)["decode_huffman"] is of_another
        leave()
        assert vars(hpack)["decode_huffman"] is of_another


if THEIRS is not None:  # older releases look at no characters

    @given(st.lists(st.tuples(texts, texts), max_size=3))
    def test_the_same_characters_are_refused(fields: list[tuple[bytes, bytes]]) -> None:
        """And the fields before are let through."""
        own = vars(h2.utilities)["_reject_illegal_characters"]
        assert outcome(http2_fields.reject_illegal_characters, fields) == outcome(own, fields)

    def test_what_is_fine_is_not_looked_at_by_the_library() -> None:
        """Character by character."""
        fields = [(b":path", b"/v1"), (b"authorization", b"Bearer x"), (b"x-empty", b"")]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(http2_fields, "_reject", lambda *_: pytest.fail("asked the library"))
            assert list(http2_fields.reject_illegal_characters(fields, REQUEST)) == fields

    def test_a_release_that_refuses_something_else_keeps_its_own_check() -> None:
        """One that also refuses a tilde, or lets a tab through."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (("_NAME", http2_fields._VALUE), ("_VALUE", http2_fields._NAME)):
                patch.setattr(http2_fields, name, value)
                leave = http2_fields.install()
                assert vars(h2.utilities)["_reject_illegal_characters"] is THEIRS
                leave()
                patch.undo()
