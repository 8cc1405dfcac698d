"""Tokens and what they cost."""

from __future__ import annotations

import pytest

from understudy.model.usage import NO_TOKENS, Price, Usage


def test_tokens_add_up_kind_by_kind() -> None:
    one, other = Usage(10, 5, 4, 3, 2), Usage(1, 20, 4, 0, 3)
    assert one + other == Usage(11, 25, 8, 3, 5)
    assert one.at_least(other) == Usage(10, 20, 4, 3, 3)
    assert one + NO_TOKENS == one.at_least(NO_TOKENS) == one


@pytest.mark.parametrize(
    ("price", "usage", "cost"),
    [
        (Price(2.0, 10.0), Usage(1_000_000, 500_000), 7.0),
        (Price(2.0, 10.0), Usage(1_000_000, 0, 400_000, 100_000), 2.0),
        (Price(2.0, 10.0, cached=0.5), Usage(1_000_000, 0, 400_000), 1.4),
        (Price(2.0, 10.0, cached=0.0), Usage(1_000_000, 0, 400_000), 1.2),
        (Price(2.0, 10.0, written=3.0), Usage(1_000_000, 0, 0, 100_000), 2.1),
        (Price(2.0, 10.0, cached=0.5, written=3.0), Usage(1_000_000, 100_000, 400_000, 100_000), 2.5),
        (Price(2.0, 10.0, cached=0.5), Usage(100, 0, 1_000_000), 0.5),
        (Price(), Usage(1_000_000, 1_000_000), 0.0),
        (Price(2.0, 10.0), NO_TOKENS, 0.0),
    ],
)
def test_what_tokens_cost(price: Price, usage: Usage, cost: float) -> None:
    """What came from a cache or went into one is part of what was read, and may have a price of its own."""
    assert price.of(usage) == pytest.approx(cost)
