"""What the commands of a running proxy come to, as plain values; ``status_text`` makes lines and JSON of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from understudy.control.drills import DrillResult
from understudy.control.learned import LearnedResult
from understudy.control.pool_view import OutOfUse, Overview
from understudy.control.status import Entry, Explanation
from understudy.control.usage_report import UsageReport


class Outcome(StrEnum):
    """What would happen to a request."""

    SENT = "sent"
    WAITS = "waits"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Pick:
    """What would happen to a request for this alias now. ``reason``: why it waits, or our own answer's text."""

    alias: str
    dialect: str
    route: str
    outcome: Outcome
    credential: str = ""
    model: str = ""
    seconds: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Suspended:
    """``entry``: what holds now. ``kept``: it was suspended before, and for longer, so that nothing has changed."""

    entry: Entry
    now: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Resumed:
    """``entries``: what was lifted. ``left``: what still keeps the target out of rotation."""

    target: str
    now: float
    entries: tuple[Entry, ...]
    left: tuple[Entry, ...] = ()


@dataclass(frozen=True, slots=True)
class Probed:
    """``entries``: what the next request asks again, with how it was held until now."""

    target: str
    now: float
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The pool that is in use now."""

    pool: str
    routes: int
    credentials: int
    out_of_use: tuple[OutOfUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Several[T]:
    """One result for each dialect in which a route takes the alias."""

    results: tuple[T, ...]


type Changed = Suspended | Resumed | Probed | Reloaded | DrillResult
type Result = Overview | Several[Explanation] | Several[Pick] | Changed | LearnedResult | UsageReport
