"""How many tokens a reply says it took, and what they cost where the owner has written a price. Plain values."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import NamedTuple

PER = 1_000_000
"""Tokens that a price is for."""


class Usage(NamedTuple):
    """Tokens, each kind counted as all vendors can be compared. A tuple, because every call adds some up.

    ``input``: all that were read, with those that came from a prompt cache or went into one. ``output``: all that were
    made, with those of reasoning. ``cached``: the part of ``input`` that came from a cache. ``written``: the part of it
    that was put into one, where a vendor charges for that. ``reasoning``: the part of ``output`` that is no answer.
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:  # type: ignore[override] # of tuples that would be a longer one
        return Usage._make(map(operator.add, self, other))

    def at_least(self, other: Usage) -> Usage:
        """The larger of each: events of one stream count upwards, and each states only a part."""
        return Usage._make(map(max, self, other))


NO_TOKENS = Usage()


@dataclass(frozen=True, slots=True)
class Price:
    """What a million tokens cost, in whatever the owner counts in. ``cached`` and ``written`` None: as ``input``."""

    input: float = 0.0
    output: float = 0.0
    cached: float | None = None
    written: float | None = None

    def of(self, usage: Usage) -> float:
        """What so many tokens cost."""
        cached = self.input if self.cached is None else self.cached
        written = self.input if self.written is None else self.written
        fresh = max(0, usage.input - usage.cached - usage.written)
        read = fresh * self.input + usage.cached * cached + usage.written * written
        return (read + usage.output * self.output) / PER
