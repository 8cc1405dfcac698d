"""What is searched or copied in pieces is found and copied as in one go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.codec import in_pieces
from understudy.codec.in_pieces import contains_any, copy_to, find_first, find_last

bodies = st.binary(max_size=60).map(lambda each: each.replace(b"a", b"ab"))
places, pieces = st.integers(0, 60), st.integers(2, 10)


@contextmanager
def in_one_go(size: int) -> Iterator[None]:
    """So many bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_pieces, "SEARCHED", size)
        patch.setattr(in_pieces, "COPIED", size)
        yield


@given(bodies, places, pieces)
def test_the_places_of_words_are_found(body: bytes, place: int, piece: int) -> None:
    """Wherever a piece ends, within the words too."""
    body += b"ab, abab" + body
    with in_one_go(piece):
        assert find_first(body, b"ab", place) == body.find(b"ab", place)
        assert find_last(body, b"ab", place) == body.rfind(b"ab", 0, place)


@given(bodies, pieces)
def test_words_that_are_there_are_found(body: bytes, piece: int) -> None:
    """One of them is enough."""
    with in_one_go(piece):
        assert contains_any(body, (b"a", b"ab")) is (b"a" in body)
        assert contains_any(body, (b"zz", b"\0")) is (b"zz" in body or b"\0" in body)
        assert not contains_any(body, ())


@given(bodies, places, places, pieces)
def test_what_is_between_two_places_is_copied(body: bytes, begin: int, end: int, piece: int) -> None:
    """All of it, and nothing beside it."""
    made = BytesIO()
    with in_one_go(piece):
        copy_to(made, memoryview(body), begin, min(end, len(body)))
    assert made.getvalue() == body[begin:end]
