"""What each candidate has given, as plain values: for the status, and for ``usage`` by candidate, day or session.

Costs follow from the prices that the pool file states now, so that they need not be known when something is counted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from understudy.codec.steady_clock import ahead_of
from understudy.control.target import ControlError
from understudy.control.usage_report import Spent, UsageReport, UsageRow, grouped
from understudy.inspection.usage import DAYS, Place, Row, UsageLedger
from understudy.model import Pool, Price, printable

GROUPS = ("candidate", "day", "session")
WHEN = "`today`, `7d`, a day such as `2026-11-29`, or `all`"
HOW = "`candidate`, `day`, `session`, or `day,candidate`"


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
    return grouped(found, by, since, ledger.day(now), now)


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
