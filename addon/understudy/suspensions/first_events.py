"""How long each candidate takes to its first event, by its own last calls: when silence is unusual (section 5c)."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass

CANDIDATES = 2_000
"""How many candidates are remembered: those that spoke last."""
CALLS = 50
"""How many of a candidate's last times count."""
ENOUGH = 5
"""From so many calls on a candidate has a limit of its own."""
LEAST = 10.0
"""The shortest limit of its own, in seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of the last ``calls`` of a candidate: the times to the first event, in seconds, that half and 95 % kept."""

    median: float
    p95: float
    calls: int


class FirstEvents[K]:
    """The last times to the first event of each candidate, in seconds. Whoever is given up counts twice its wait."""

    def __init__(self) -> None:
        # Every call tells: a cache of Python code takes several calls of its own for what this does in one.
        self._times: OrderedDict[K, deque[float]] = OrderedDict()
        self._paces: dict[K, Pace] = {}
        """Those that were asked for since their candidate has spoken last."""

    def spoke(self, key: K, seconds: float) -> None:
        """The first event has come after so many seconds."""
        times = self._times.get(key)
        if times is None:
            times = self._times[key] = deque(maxlen=CALLS)
            if len(self._times) > CANDIDATES:
                self._paces.pop(self._times.popitem(last=False)[0], None)
        else:
            self._times.move_to_end(key)
        times.append(max(0.0, seconds))
        if self._paces:
            self._paces.pop(key, None)

    def given_up(self, key: K, seconds: float) -> None:
        """Nothing had come after so many seconds, when another candidate was faster."""
        self.spoke(key, 2 * seconds)

    def own_limit(self, key: K) -> float | None:
        """Twice the 95th percentile of its own times, at least ten seconds; None while too few are known."""
        times = self._times.get(key)
        if times is None or len(times) < ENOUGH:
            return None
        return max(LEAST, 2 * _share(sorted(times), 0.95))

    def pace(self, key: K) -> Pace | None:
        """How fast a candidate was of late; None while it was not asked."""
        if (known := self._paces.get(key)) is not None:
            return known
        times = self._times.get(key)
        if not times:
            return None
        ordered = sorted(times)
        found = self._paces[key] = Pace(round(_share(ordered, 0.5), 3), round(_share(ordered, 0.95), 3), len(ordered))
        return found


def _share(ordered: Sequence[float], share: float) -> float:
    """The time that this share of the calls kept: the nearest rank."""
    return ordered[math.ceil(share * len(ordered)) - 1]
