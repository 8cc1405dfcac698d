"""How many tokens a request is likely to take."""

from __future__ import annotations

import json
import time

import pytest

from understudy.requests import tokens_in
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
