"""How long a failure takes its candidate out of rotation: the steps of each label, counted once per window.

A label that keeps coming back lasts longer each time (docs/architecture.md, section 5). What counts is a failure of an
attempt that began after the last suspension had ended; whatever fails inside its window, or began before it, says
nothing new.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from understudy.codec.record import record
from understudy.model import Label

MINUTE = 60.0
HOUR = 3600.0
JITTER = 0.1
"""The most that is added to a step, as a share of it, so that not all candidates come back at the same instant."""
LIMIT = 100_000
"""The most keys whose ladders are remembered; what was climbed longest ago is forgotten first."""


def doubling(first: float, cap: float) -> tuple[float, ...]:
    """Steps in seconds, each twice the one before, the last one ``cap``."""
    steps = itertools.takewhile(lambda step: step < cap, (first * 2**power for power in itertools.count()))
    return (*steps, cap)


def seconds_of(steps: Sequence[float], step: int) -> float:
    """The length of a step, counted from 0; the last one holds for all that follow. 0 without any steps."""
    return steps[min(step, len(steps) - 1)] if steps else 0.0


@record
class Rung:
    """Where a ladder stands: the last counted step, when it was set (as an order), and until when its window lasts."""

    step: int
    order: int
    until: float


class Ladders[K]:
    """The rungs that keys have reached, by label."""

    def __init__(self) -> None:
        self.rungs: dict[K, dict[Label, Rung]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self.rungs

    def __iter__(self) -> Iterator[tuple[K, Label, Rung]]:
        """Every rung that was reached."""
        return ((key, label, rung) for key, rungs in self.rungs.items() for label, rung in rungs.items())

    def next_step(self, key: K, label: Label, ticket: int, now: float) -> int | None:
        """The step that a failure reaches; None when it belongs to the window of the last one.

        ``ticket``: the order of the attempt that failed.
        """
        rung = self.rungs.get(key, {}).get(label)
        if rung is None:
            return 0
        return None if ticket < rung.order or now < rung.until else rung.step + 1

    def climb(self, key: K, label: Label, rung: Rung) -> None:
        """A failure was counted."""
        rungs = self.rungs[key] = self.rungs.pop(key, {})
        rungs[label] = rung
        if len(self.rungs) > LIMIT:
            del self.rungs[next(iter(self.rungs))]

    def standing(self, key: K) -> dict[Label, Rung]:
        """Where a key stands, by label."""
        return dict(self.rungs.get(key, {}))

    def forget(self, key: K) -> None:
        """A real success: the next failure is a first one."""
        self.rungs.pop(key, None)
