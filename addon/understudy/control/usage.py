"""What each candidate has given, as plain values: for the status, and for ``usage`` by candidate, day or session.

Costs follow from the prices that the pool file states now, so that they need not be known when something is counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from understudy.codec.steady_clock import ahead_of
from understudy.control.target import ControlError
from understudy.inspection.usage import DAYS, Place, Row, UsageLedger
from understudy.model import Pool, Price, printable

MOST_ROWS = 1000
"""Rows of a report; of more, their number."""
GROUPS = ("candidate", "day", "session")
WHEN = "`today`, `7d`, a day such as `2026-11-29`, or `all`"
HOW = "`candidate`, `day`, `session`, or `day,candidate`"


@dataclass(frozen=True, slots=True)
class Spent:
    """``calls``: replies that the tool got. ``unstated``: those that counted no tokens; ``another``: those that named
    another model than was sent. ``lost``: replies that the tool did not get, because another candidate was asked after
    or beside them, with their tokens and their cost. ``cost`` None: nothing of it has a price; ``unpriced``: replies
    without one.
    """

    calls: int = 0
    unstated: int = 0
    another: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    cost: float | None = None
    unpriced: int = 0
    lost: int = 0
    lost_input: int = 0
    lost_output: int = 0
    lost_cost: float | None = None

    def __add__(self, other: Spent) -> Spent:
        found: dict[str, Any] = {}
        for name in Spent.__slots__:
            one, another = getattr(self, name), getattr(other, name)
            found[name] = another if one is None else one if another is None else one + another
        return Spent(**found)


NOTHING = Spent()


def spent_of(row: Row, price: Price | None) -> Spent:
    """What a row counts, and what it costs."""
    usage, lost = row.usage, row.lost_usage
    return Spent(
        row.calls,
        row.unstated,
        row.another,
        usage.input,
        usage.output,
        usage.cached,
        usage.written,
        usage.reasoning,
        round(price.of(usage), 6) if price is not None and row.calls else None,
        row.calls if price is None else 0,
        row.lost,
        lost.input,
        lost.output,
        round(price.of(lost), 6) if price is not None and row.lost else None,
    )


def price_of(pool: Pool, place: Place) -> Price | None:
    """The price of a candidate as the pool file states it now."""
    upstream = pool.upstreams.get(place.upstream)
    return upstream.price(place.model) if upstream is not None and upstream.prices else None


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One line of a report. What it is not grouped by is "". ``since`` and ``last``: Unix times."""

    day: str
    session: str
    credential: str
    model: str
    upstream: str
    since: float
    last: float
    spent: Spent


@dataclass(frozen=True, slots=True)
class UsageReport:
    """``since``: the first day that counts, "" for all that is kept. ``more``: how many rows are left out."""

    by: tuple[str, ...]
    since: str
    today: str
    now: float
    rows: tuple[UsageRow, ...]
    total: Spent
    more: int = 0


def report(ledger: UsageLedger, pool: Pool, words: Sequence[str]) -> UsageReport:
    """``usage [WHEN] [HOW]``. Raises ControlError."""
    now = ledger.clock() + ahead_of(ledger.clock)
    by, since = _asked(ledger, now, words)
    if by == ("session",):
        begins = _midnight(ledger, since)
        found = (UsageRow("", name, *_names(place), row.since, row.last, spent_of(row, price_of(pool, place)))
                 for name, place, row in ledger.sessions(begins))  # fmt: skip
    else:
        found = (UsageRow(name, "", *_names(place), row.since, row.last, spent_of(row, price_of(pool, place)))
                 for name, place, row in ledger.days(since))  # fmt: skip
    return _grouped(found, by, since, ledger.day(now), now)


def merged(reports: Sequence[UsageReport]) -> UsageReport:
    """The reports of several processes on the same question, as one."""
    first = reports[0]
    rows = (row for each in reports for row in each.rows)
    found = _grouped(rows, first.by, first.since, first.today, max(each.now for each in reports))
    more = sum(each.more for each in reports)
    total = sum((each.total for each in reports[1:]), first.total)
    return UsageReport(found.by, found.since, found.today, found.now, found.rows, total, found.more + more)


def of_json(fields: Any) -> UsageReport:
    """A report as another process has written it. Raises KeyError, TypeError or ValueError for what is none."""
    rows = tuple(UsageRow(**{**row, "spent": Spent(**row["spent"])}) for row in fields["rows"])
    return UsageReport(**{**fields, "by": tuple(fields["by"]), "rows": rows, "total": Spent(**fields["total"])})


def _names(place: Place) -> tuple[str, str, str]:
    return place.credential, place.model, place.upstream


def _midnight(ledger: UsageLedger, since: str) -> float:
    return ledger.begins(since) if since else 0.0


def _asked(ledger: UsageLedger, now: float, words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    by: tuple[str, ...] = ("candidate",)
    since: str | None = None
    for word in words:
        parts = tuple(word.split(","))
        if set(parts) <= set(GROUPS) and len(set(parts)) == len(parts):
            by = parts
        elif since is None:
            since = _first_day(ledger, now, word)
        else:
            raise ControlError(f"`{printable(word)}` after the day: write {HOW}")
    if "session" in by and len(by) > 1:
        raise ControlError("`session` stands with other groups: write it alone")
    return by, since or ""


def _first_day(ledger: UsageLedger, now: float, word: str) -> str:
    if word == "all":
        return ""
    if word == "today":
        return ledger.day(now)
    if found := re.fullmatch(r"([1-9][0-9]{0,3})d", word):
        return ledger.days_ago(min(int(found[1]), DAYS) - 1, now)
    try:
        return date.fromisoformat(word).isoformat()
    except ValueError:
        raise ControlError(f"`{printable(word)}` is no day: write {WHEN}, and then {HOW}") from None


def _grouped(rows: Iterable[UsageRow], by: tuple[str, ...], since: str, today: str, now: float) -> UsageReport:
    """Rows that differ in nothing that is asked for become one."""
    found: dict[tuple[str, ...], UsageRow] = {}
    total = NOTHING
    for row in rows:
        day = row.day if "day" in by else ""
        names = (row.credential, row.model, row.upstream) if "candidate" in by else ("", "", "")
        key = (day, row.session, *names)
        before = found.get(key)
        total += row.spent
        found[key] = UsageRow(
            *key,
            row.since if before is None else min(before.since, row.since),
            row.last if before is None else max(before.last, row.last),
            row.spent if before is None else before.spent + row.spent,
        )
    if by == ("session",):
        ordered = sorted(found.values(), key=lambda row: -row.last)
    else:
        ordered = sorted(found.values(), key=lambda row: (row.day, -row.spent.input - row.spent.output))
    # Of days the latest are what is asked for; of the others the first.
    kept = ordered[-MOST_ROWS:] if by[0] == "day" else ordered[:MOST_ROWS]
    return UsageReport(by, since, today, now, tuple(kept), total, len(ordered) - len(kept))
