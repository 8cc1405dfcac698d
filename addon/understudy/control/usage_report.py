"""The report on what each candidate has given: its values, its lines, and one report of those of several processes.

The shell puts the reports of several workers together. So this module needs nothing that a proxy has loaded: no pool,
no ledger, no mitmproxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.codec.time_text import clock_time
from understudy.model import counted

MOST_ROWS = 1000
"""Rows of a report; of more, their number."""


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


def merged(reports: Sequence[UsageReport]) -> UsageReport:
    """The reports of several processes on the same question, as one."""
    first = reports[0]
    rows = (row for each in reports for row in each.rows)
    found = grouped(rows, first.by, first.since, first.today, max(each.now for each in reports))
    more = sum(each.more for each in reports)
    total = sum((each.total for each in reports[1:]), first.total)
    return UsageReport(found.by, found.since, found.today, found.now, found.rows, total, found.more + more)


def of_json(fields: Any) -> UsageReport:
    """A report as another process has written it. Raises KeyError, TypeError or ValueError for what is none."""
    rows = tuple(UsageRow(**{**row, "spent": Spent(**row["spent"])}) for row in fields["rows"])
    return UsageReport(**{**fields, "by": tuple(fields["by"]), "rows": rows, "total": Spent(**fields["total"])})


def grouped(rows: Iterable[UsageRow], by: tuple[str, ...], since: str, today: str, now: float) -> UsageReport:
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


# -- as text ----------------------------------------------------------------------------------------------------------

COLUMNS = ("calls", "input", "cached", "output", "reasoning", "cost")


def usage_lines(result: UsageReport) -> list[str]:
    """A table, with what its numbers leave out below."""
    since = f"since {result.since}" if result.since else "of all days that are kept"
    if not result.rows:
        return [f"no tokens were counted {since}"]
    named = [(_row_name(row, result), row.spent) for row in result.rows]
    if len(named) > 1:
        named.append(("total", result.total))
    priced = result.total.cost is not None
    columns = COLUMNS if priced else COLUMNS[:-1]
    cells = [[_cell(spent, column) for column in columns] for _, spent in named]
    width = max(len(name) for name, _ in named)
    widths = [max(len(column), *(len(row[at]) for row in cells)) for at, column in enumerate(columns)]
    head = "  ".join(column.rjust(wide) for column, wide in zip(columns, widths, strict=True))
    lines = [f"tokens {since}, by {' and '.join(result.by)}", f"{'':<{width}}  {head}"]
    for (name, _), row in zip(named, cells, strict=True):
        lines.append(f"{name:<{width}}  {'  '.join(cell.rjust(wide) for cell, wide in zip(row, widths, strict=True))}")
    if result.more:
        lines.append(f"and {result.more} more")
    return [*lines, *_left_out(result.total)]


def _left_out(total: Spent) -> Iterator[str]:
    if total.lost:
        cost = f", cost {total.lost_cost:,.4f}" if total.lost_cost is not None else ""
        what = f"{total.lost_input:,} in, {total.lost_output:,} out{cost}"
        replies = "1 reply" if total.lost == 1 else f"{total.lost} replies"
        yield f"not in it: {replies} that no tool got (replays, hedges): {what}"
    if total.unstated:
        why = "a chat stream does so only if the tool asks for it"
        yield f"{counted(total.unstated, 'call')} counted no tokens: {why}"
    if total.another:
        yield f"{counted(total.another, 'call')} named another model than was sent"
    if total.cost is not None and total.unpriced:
        yield f"{counted(total.unpriced, 'call')} without a price: `prices` of the upstream does not name the model"


def _row_name(row: UsageRow, result: UsageReport) -> str:
    if row.session:
        return f"{row.session} {clock_time(row.last, result.now)}"
    return " ".join(filter(None, (row.day, row.credential, row.model))) or "all"


def _cell(spent: Spent, column: str) -> str:
    value = getattr(spent, column)
    if value is None:
        return "-"
    return f"{value:,.4f}" if column == "cost" else f"{value:,}"
