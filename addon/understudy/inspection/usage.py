"""What each candidate has given: tokens by day and by session, kept over a restart, bounded.

A row counts what the replies of one candidate said on one day of the machine's own calendar, or in one session of a
tool. What an attempt took whose reply the tool did not get stands apart: that is what a replay or a hedge cost twice.
Nothing of a request is kept: a session is known by a hash of its id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b
from typing import Any, NamedTuple

from understudy.codec.steady_clock import ahead_of
from understudy.inspection.backlog import Backlog
from understudy.model import NO_TOKENS, Usage, printable
from understudy.proxy.exchange_facts import USAGE_KINDS, counts_of

DAYS = 32
"""Days that are kept, today among them."""
MOST_ROWS = 4000
"""Rows of days; of more, the oldest day goes first."""
MOST_SESSIONS = 1000
"""Rows of sessions; of more, what was used least recently goes first."""
WRITE_EVERY = 30.0
"""Seconds after which what was counted is worth a write of the state file: each call changes it."""
MOST_COUNTED = 1 << 60
"""No number in a row is believed to be larger."""
_TEXT = 200
_SESSION_BYTES = 6


@dataclass(slots=True)
class Row:
    """What was counted. ``calls``: replies that the tool got; ``unstated``: those of them that counted no tokens.

    ``another``: those that named another model than was sent. ``lost`` and ``lost_usage``: replies that the tool did
    not get, and their tokens. ``since`` and ``last``: Unix times.
    """

    since: float
    last: float
    calls: int = 0
    unstated: int = 0
    another: int = 0
    usage: Usage = NO_TOKENS
    lost: int = 0
    lost_usage: Usage = NO_TOKENS

    def add(self, usage: Usage | None, now: float, *, another: bool, lost: bool) -> None:
        """Count a reply."""
        self.last = now
        if lost:
            self.lost += 1
            self.lost_usage = self.lost_usage + usage if usage is not None else self.lost_usage
            return
        self.calls += 1
        self.another += another
        if usage is None:
            self.unstated += 1
        else:
            self.usage += usage

    def take(self, other: Row) -> None:
        """Add what another row has counted."""
        self.since, self.last = min(self.since, other.since), max(self.last, other.last)
        self.calls += other.calls
        self.unstated += other.unstated
        self.another += other.another
        self.usage += other.usage
        self.lost += other.lost
        self.lost_usage += other.lost_usage


class Place(NamedTuple):
    """Whose row it is: a candidate by credential and upstream model, and its upstream. Each call looks one up."""

    credential: str
    model: str
    upstream: str


def session_id(session: str) -> str:
    """What a session is called here: twelve hexadecimal digits, "" without one."""
    if not session:
        return ""
    return blake2b(session.encode("utf-8", "surrogateescape"), digest_size=_SESSION_BYTES).hexdigest()


@dataclass
class UsageLedger:
    """The rows of one proxy. ``clock``: that of the exchanges, in seconds; ``zone`` None: the machine's own.

    ``backlog``: what is to be counted before anybody reads a row.
    """

    clock: Callable[[], float]
    zone: tzinfo | None = None
    backlog: Backlog = field(default_factory=Backlog)
    name: str = field(default="usage", init=False)
    """What it is called in the state file."""

    def __post_init__(self) -> None:
        self._days: dict[str, dict[Place, Row]] = {}
        self._sessions: dict[tuple[str, Place], Row] = {}
        self._today: tuple[float, float, str] = (0.0, 0.0, "")  # from when, until when, and its name
        self._rows = 0
        self._changed = False
        self._version = 0
        self._due = -math.inf

    # -- counting ------------------------------------------------------------------------------------------------

    def add(
        self,
        place: Place,
        session: str,
        usage: Usage | None,
        *,
        another: bool = False,
        lost: bool = False,
        at: float | None = None,
    ) -> None:
        """Count a reply of a candidate in a session, "" outside of any. ``at``: when, by the clock; None: now."""
        now = (self.clock() if at is None else at) + ahead_of(self.clock)
        day = self._days.get(self.day(now))
        if day is None:
            day = self._begin_day(now)
        row = day.get(place)
        if row is None:
            row = day[place] = Row(now, now)
            self._rows += 1
            self._trim()
        row.add(usage, now, another=another, lost=lost)
        if session:
            key = (session_id(session), place)
            row = self._sessions.pop(key, None) or Row(now, now)
            self._sessions[key] = row  # the latest last
            row.add(usage, now, another=another, lost=lost)
            if len(self._sessions) > MOST_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        self._changed = True

    def _begin_day(self, now: float) -> dict[Place, Row]:
        day = self._days[self.day(now)] = {}
        self._days = dict(sorted(self._days.items()))
        self._forget(now)
        return day

    def _forget(self, now: float) -> None:
        """Let go of days that are too old, and of sessions that ended before them."""
        oldest = self.days_ago(DAYS - 1, now)
        for name in [name for name in self._days if name < oldest]:
            self._rows -= len(self._days.pop(name))
        for key in [key for key, row in self._sessions.items() if row.last < now - DAYS * 86400]:
            del self._sessions[key]

    def _trim(self) -> None:
        while self._rows > MOST_ROWS:
            name, rows = next(iter(self._days.items()))
            if len(self._days) > 1:
                self._rows -= len(self._days.pop(name))
            else:
                del rows[next(iter(rows))]
                self._rows -= 1

    # -- questions -----------------------------------------------------------------------------------------------

    def day(self, now: float) -> str:
        """The day of a Unix time, as ``2026-11-29``."""
        begins, ends, name = self._today
        if not begins <= now < ends:
            midnight = self._local(now).replace(hour=0, minute=0, second=0, microsecond=0)
            name = midnight.date().isoformat()
            following = datetime.combine(midnight.date() + timedelta(days=1), midnight.time(), tzinfo=self.zone)
            # Where clocks are changed at midnight, a day is looked up again a little more often.
            self._today = begins, ends, name = now, max(now + 1.0, following.timestamp()), name
        return name

    def days_ago(self, days: int, now: float) -> str:
        """The name of a day in the past; 0: today."""
        return (self._local(now).date() - timedelta(days=days)).isoformat()

    def begins(self, day: str) -> float:
        """The Unix time at which a day begins. Raises ValueError for what is none."""
        return datetime.fromisoformat(day).replace(tzinfo=self.zone).timestamp()

    def _local(self, now: float) -> datetime:
        return datetime.fromtimestamp(now, self.zone) if self.zone is not None else datetime.fromtimestamp(now)

    def today(self) -> Mapping[Place, Row]:
        """The rows of today."""
        self.backlog.settle()
        return self._days.get(self.day(self.clock() + ahead_of(self.clock)), {})

    def days(self, since: str = "") -> Iterator[tuple[str, Place, Row]]:
        """The rows by day, the earliest first. ``since``: a day's name, "" for all."""
        self.backlog.settle()
        for name, rows in self._days.items():
            if name >= since:
                for place, row in rows.items():
                    yield name, place, row

    def sessions(self, since: float = 0.0) -> Iterator[tuple[str, Place, Row]]:
        """The rows by session that were used since a Unix time, the latest first. Each counts all of its session."""
        self.backlog.settle()
        for (name, place), row in reversed(self._sessions.items()):
            if row.last >= since:
                yield name, place, row

    # -- the state file ------------------------------------------------------------------------------------------

    @property
    def version(self) -> int:
        """Changes when there is something to be written, and at most every ``WRITE_EVERY`` seconds."""
        self.backlog.settle()
        if self._changed and self.clock() >= self._due:
            self._changed, self._due = False, self.clock() + WRITE_EVERY
            self._version += 1
        return self._version

    def rows(self) -> list[dict[str, Any]]:
        """Everything, as it is written."""
        found = [_written({"day": name}, place, row) for name, place, row in self.days()]
        found += [_written({"session": name}, place, row) for (name, place), row in self._sessions.items()]
        return found

    def restore(self, rows: Sequence[Any]) -> None:
        """Take back what was written; it is added to what was counted since. Raises ValueError for what is damaged."""
        self.backlog.settle()
        now = self.clock() + ahead_of(self.clock)
        days: dict[str, dict[Place, Row]] = {}
        sessions: dict[tuple[str, Place], Row] = {}
        for entry in rows:
            place, row = _read(entry)
            if isinstance(name := entry.get("session"), str):
                sessions[printable(name, 2 * _SESSION_BYTES), place] = row
            else:
                day = datetime.strptime(str(entry.get("day")), "%Y-%m-%d").replace(tzinfo=UTC).date().isoformat()
                days.setdefault(day, {})[place] = row
        tomorrow = self.days_ago(-1, now)
        for day in sorted(days):
            if day > tomorrow:
                continue
            for place, row in days[day].items():
                if (counted := self._days.setdefault(day, {}).setdefault(place, row)) is not row:
                    counted.take(row)
                else:
                    self._rows += 1
        for key, row in self._sessions.items():
            if (before := sessions.pop(key, None)) is not None:
                row.take(before)
        self._sessions = dict([*sessions.items(), *self._sessions.items()][-MOST_SESSIONS:])
        self._days = dict(sorted(self._days.items()))
        self._forget(now)
        self._trim()


_COUNTS = ("calls", "unstated", "another", "lost")


def _written(head: dict[str, Any], place: Place, row: Row) -> dict[str, Any]:
    found = {**head, "credential": place.credential, "model": place.model, "upstream": place.upstream}
    found |= {"since": round(row.since), "last": round(row.last)}
    found |= {name: count for name in _COUNTS if (count := getattr(row, name))}
    found["usage"] = counts_of(row.usage)
    if row.lost:
        found["lost_usage"] = counts_of(row.lost_usage)
    return found


def _read(entry: Any) -> tuple[Place, Row]:
    if not isinstance(entry, dict):
        raise ValueError("a row that is none")
    names = [entry.get(name) for name in ("credential", "model", "upstream")]
    if not all(isinstance(name, str) for name in names):
        raise ValueError("a row without its names")
    since, last = (entry.get(name) for name in ("since", "last"))
    if not all(isinstance(at, int | float) and 0 <= at < MOST_COUNTED for at in (since, last)):
        raise ValueError("a row without its times")
    row = Row(
        float(str(since)),
        float(str(last)),
        calls=_count(entry, "calls"),
        unstated=_count(entry, "unstated"),
        another=_count(entry, "another"),
        usage=_usage(entry.get("usage")),
        lost=_count(entry, "lost"),
        lost_usage=_usage(entry.get("lost_usage")),
    )
    return Place(*(printable(str(name), _TEXT) for name in names)), row


def _usage(counts: Any) -> Usage:
    fields = counts if isinstance(counts, dict) else {}
    return Usage(**{kind: _count(fields, kind) for kind in USAGE_KINDS})


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MOST_COUNTED:
        raise ValueError(f"a count that is none: {name}")
    return value
