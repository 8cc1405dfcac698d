"""What a subscription does: windows of five hours and seven days, which begin with the first call after the last one.

Figures are made up in the proportions that subscriptions have: a week holds six full windows of five hours. A call
costs less where its prompt is still in the account's cache.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HOUR, DAY = 3600.0, 86400.0
LENGTHS = {"5h": 5 * HOUR, "7d": 7 * DAY}
CAPACITY = {"5h": 100.0, "7d": 600.0}
"""Units of work."""
CACHE_SECONDS = 300.0
"""How long a prompt stays in a cache."""
CACHED = 0.25
"""What a call costs of its units when its prompt is cached: most of it is the prompt."""


@dataclass
class Span:
    """One window. ``until`` 0: none has begun."""

    until: float = 0.0
    used: float = 0.0


@dataclass
class Account:
    """One account. ``unused``: of each window that has ended, the share that nobody used."""

    name: str
    windows: dict[str, Span] = field(default_factory=lambda: {name: Span() for name in LENGTHS})
    unused: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in LENGTHS})
    cached: dict[str, float] = field(default_factory=dict)
    """Session -> when its prompt was used last."""
    refusals: int = 0

    def pass_time(self, now: float) -> None:
        """Windows whose time has come end."""
        for name, span in self.windows.items():
            if span.until and span.until <= now:
                self.unused[name].append(1 - span.used / CAPACITY[name])
                self.windows[name] = Span()

    def is_cached(self, session: str, now: float) -> bool:
        """Whether a session's prompt is still in this account's cache."""
        return now - self.cached.get(session, -DAY) <= CACHE_SECONDS

    def ask(self, session: str, units: float, now: float) -> tuple[int, dict[str, str]]:
        """A call of so many units: status and headers."""
        self.pass_time(now)
        if self.is_cached(session, now):
            units *= CACHED
        full = [name for name, span in self.windows.items() if span.used + units > CAPACITY[name]]
        if full:
            self.refusals += 1
            reset = max(self.windows[name].until for name in full)
            return 429, {"anthropic-ratelimit-unified-reset": f"{reset:.0f}", **self.headers()}
        for name, span in self.windows.items():
            if not span.until:
                span.until = now + LENGTHS[name]
            span.used += units
        self.cached[session] = now
        return 200, self.headers()

    def headers(self) -> dict[str, str]:
        """What a reply says of the windows."""
        found = {}
        for name, span in self.windows.items():
            found[f"anthropic-ratelimit-unified-{name}-utilization"] = f"{span.used / CAPACITY[name]:.4f}"
            found[f"anthropic-ratelimit-unified-{name}-reset"] = f"{span.until:.0f}"
        return found
