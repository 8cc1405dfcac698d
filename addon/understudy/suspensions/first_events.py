"""How long each candidate takes to its first event, by its own last calls: when silence is unusual (section 5c)."""

from __future__ import annotations

import math
from collections import deque

from cachetools import LRUCache

CANDIDATES = 2_000
"""How many candidates are remembered."""
CALLS = 50
"""How many of a candidate's last times count."""
ENOUGH = 5
"""From so many calls on a candidate has a limit of its own."""
LEAST = 10.0
"""The shortest limit of its own, in seconds."""


class FirstEvents[K]:
    """The last times to the first event of each candidate, in seconds. Whoever is given up counts twice its wait."""

    def __init__(self) -> None:
        self._times: LRUCache[K, deque[float]] = LRUCache(CANDIDATES)

    def spoke(self, key: K, seconds: float) -> None:
        """The first event has come after so many seconds."""
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = deque(maxlen=CALLS)
        times.append(max(0.0, seconds))

    def given_up(self, key: K, seconds: float) -> None:
        """Nothing had come after so many seconds, when another candidate was faster."""
        self.spoke(key, 2 * seconds)

    def own_limit(self, key: K) -> float | None:
        """Twice the 95th percentile of its own times, at least ten seconds; None while too few are known."""
        times = self._times.get(key)
        if times is None or len(times) < ENOUGH:
            return None
        ordered = sorted(times)
        return max(LEAST, 2 * ordered[math.ceil(0.95 * len(ordered)) - 1])
