"""How many tokens a request is likely to take."""

from __future__ import annotations

import json
import re
import time

import pytest

from understudy.codec.abridged import abridge
from understudy.requests import size, tokens_in
from understudy.requests.size import TOKENS_A_FILE


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (0, 0)),
        (b"x" * 400, (100, 0)),
        (json.dumps({"model": "m", "max_tokens": 4096}).encode(), (8, 4096)),
        (b'{"max_completion_tokens" : 100, "max_output_tokens":7}', (13, 100)),
        (b'{"generationConfig":{"maxOutputTokens":8192}}', (11, 8192)),
        (b'{"max_tokens":"many","max_tokens_of":9,"xmax_tokens":5}', (13, 0)),
        (b'{"image":"' + b"A" * 100_000 + b'"}', (12 // 4 + TOKENS_A_FILE, 0)),
    ],
)
def test_a_request_is_as_large_as_its_text(body: bytes, expected: tuple[int, int]) -> None:
    assert tokens_in(body) == expected


WORDS = "It was said that the proxy works. " * 3000


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({"text": WORDS}, 0),
        ({"text": "x" * 600}, 1),
        ({"text": WORDS, "image": "data:image/png;base64," + "iVBORw0K/+8" * 9000}, 1),
        ({"images": ["A" * 511, "A" * 512, "B" * 40_000 + "=="], "text": WORDS}, 2),
        ({"text": "A" * 20_000 + " and words " * 2000}, 0),
        ({"text": WORDS, "image": "A" * 100 + " " + "A" * 40_000}, 1),
    ],
)
def test_files_are_told_from_text_in_what_is_left_out_of_a_body_too(members: dict[str, object], expected: int) -> None:
    """A long string is looked at in three places; what counts is the base64 around them."""
    body = json.dumps({"max_tokens": 7, **members}).encode()
    text = len(body) - sum(len(run) for run in re.findall(rb"[A-Za-z0-9+/]{512,}", body)) if expected else len(body)
    assert tokens_in(body) == (text // 4 + expected * TOKENS_A_FILE, 7)
    assert tokens_in(body, abridge(body)) == tokens_in(body)


def test_h02_of_what_is_no_json_the_beginning_is_searched_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """H02: one search through all of it would take 13 ms for each million bytes."""
    monkeypatch.setattr(size, "MOST_SEARCHED", 2000)
    file = b"A" * 600
    body = b" ".join([file, b"x" * 1400, file])
    assert tokens_in(body) == ((len(body) - 1999) // 4 + 2 * TOKENS_A_FILE, 0)


def test_h02_no_body_takes_more_than_linear_time() -> None:
    """H02: not runs that are just too short to be a file either."""
    for piece in (b"A" * 511 + b" ", b'"max_tokens"' + b" " * 20, b"A" * 5000 + b"-"):
        small, large = (piece * (size // len(piece)) for size in (100_000, 1_600_000))
        times = []
        for body in (small, large):
            began = time.process_time()
            for _ in range(3):
                tokens_in(body)
            times.append(time.process_time() - began)
        # Sixteen times the size: quadratic time would be 256 times as long.
        assert times[1] < 100 * max(times[0], 0.002)
