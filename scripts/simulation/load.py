"""The calls of a week: made up from a seed, or read from a file of JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from simulation.accounts import DAY, HOUR

BEGIN = 1_764_547_200.0
"""A Monday, 00:00 UTC."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a session at a time (Unix), of so many units of work when nothing of it is cached."""

    time: float
    session: str
    units: float


def made_up(sessions: int, chance: Random, days: int) -> list[Call]:
    """Sessions of agents: by day five times as many as by night, fewer at the weekend, each of up to two hours, with
    calls of some seconds to some minutes apart and prompts that grow."""
    calls: list[Call] = []
    weights = [
        (5.0 if 8 <= hour < 19 else 1.0) * (0.3 if day % 7 >= 5 else 1.0) for day in range(days) for hour in range(24)
    ]
    for number in range(sessions):
        [hour] = chance.choices(range(len(weights)), weights)
        now = BEGIN + (hour + chance.random()) * HOUR
        end, units = now + chance.expovariate(1 / (40 * 60)), 0.2 + chance.random() * 0.4
        while now < min(end, BEGIN + days * DAY):
            calls.append(Call(now, f"s{number}", units))
            units = min(3.0, units * 1.03)
            now += chance.choice((8, 15, 25, 40, 60, 90, 400))
    return sorted(calls, key=lambda call: call.time)


def recorded(path: Path) -> list[Call]:
    """Calls from a file: `{"time": 1764547200, "session": "a", "units": 0.4}` a line. Raises ValueError."""
    return sorted(_read(path), key=lambda call: call.time)


def _read(path: Path) -> Iterator[Call]:
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            entry = json.loads(line)
            yield Call(float(entry["time"]), str(entry["session"]), float(entry["units"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: this is no call: {error}") from None


def scaled(calls: list[Call], demand: float, capacity: float) -> list[Call]:
    """The same calls, so that all of them, uncached, take this share of what the accounts have in that time."""
    total = sum(call.units for call in calls)
    factor = demand * capacity / total if total else 1.0
    return [Call(call.time, call.session, call.units * factor) for call in calls]
