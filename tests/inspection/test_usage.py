"""The rows of what candidates have given: by day and session, bounded, and kept over a restart (Q03)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.decisions import Clock
from understudy.inspection import usage as module
from understudy.inspection.usage import DAYS, WRITE_EVERY, Place, UsageLedger, session_id
from understudy.model import NO_TOKENS, Usage

A, B = Place("a", "m1", "openai"), Place("b", "m1", "other")
TOKENS = Usage(100, 30, 64, 5, 20)
DAY = 86400.0


class Book:
    """A ledger whose clock stands at noon."""

    def __init__(self, at: datetime = datetime(2026, 11, 29, 12, tzinfo=UTC)) -> None:
        self.clock = Clock()
        self.clock.now = at.timestamp()
        self.ledger = UsageLedger(self.clock, UTC)

    def days(self) -> dict[tuple[str, str], int]:
        """The input of each day and credential."""
        return {(day, place.credential): row.usage.input for day, place, row in self.ledger.days()}


@pytest.fixture
def book() -> Book:
    """Nothing is counted yet."""
    return Book()


def test_q03_a_row_for_each_candidate_and_day(book: Book) -> None:
    """Q03: calls and tokens add up; a reply that counts none is a call all the same; another model is counted."""
    book.ledger.add(A, "", TOKENS)
    book.ledger.add(A, "", TOKENS, another=True)
    book.ledger.add(A, "", None)
    book.clock.now += DAY
    book.ledger.add(A, "", TOKENS)
    (first, _, row), (second, *_) = book.ledger.days()
    assert (first, second) == ("2026-11-29", "2026-11-30")
    assert (row.calls, row.unstated, row.another, row.usage) == (3, 1, 1, Usage(200, 60, 128, 10, 40))
    assert [row.calls for row in book.ledger.today().values()] == [1]
    assert [day for day, *_ in book.ledger.days("2026-11-30")] == ["2026-11-30"]


def test_q03_what_was_paid_twice_stands_apart(book: Book) -> None:
    """Q03: replies that the tool did not get are no calls of it."""
    book.ledger.add(A, "", TOKENS, lost=True)
    book.ledger.add(A, "", None, lost=True)
    [(_, _, row)] = book.ledger.days()
    assert (row.calls, row.usage, row.lost, row.lost_usage) == (0, NO_TOKENS, 2, TOKENS)


def test_q03_a_session_is_known_by_a_hash(book: Book) -> None:
    """Q03, law 8: neither its id nor anything else of a request is kept; the latest comes first."""
    book.ledger.add(A, "my-session-id", TOKENS)
    book.clock.now += 60
    book.ledger.add(B, "other", TOKENS)
    book.ledger.add(A, "", TOKENS)
    names = [name for name, *_ in book.ledger.sessions()]
    assert names == [session_id("other"), session_id("my-session-id")]
    assert all(len(name) == 12 for name in names)
    assert [name for name, *_ in book.ledger.sessions(book.clock.now)] == names[:1]
    assert "my-session-id" not in json.dumps(book.ledger.rows())


@pytest.mark.parametrize("hours", [-11, 0, 13])
def test_q03_a_day_is_one_of_the_machines_calendar(hours: int) -> None:
    """Q03: it begins at midnight where the machine is."""
    zone = timezone(timedelta(hours=hours))
    ledger = UsageLedger(Clock(), zone)
    midnight = datetime(2026, 11, 29, tzinfo=zone).timestamp()
    assert [ledger.day(midnight + each) for each in (-1, 0, DAY - 1, DAY, 5)] == [
        "2026-11-28",
        "2026-11-29",
        "2026-11-29",
        "2026-11-30",
        "2026-11-29",
    ]
    assert ledger.begins("2026-11-29") == midnight
    assert ledger.days_ago(1, midnight) == "2026-11-28"


def test_q03_everything_that_is_kept_is_bounded(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Q03, law 10: days, rows and sessions; the oldest go first."""
    for _ in range(DAYS + 3):
        book.ledger.add(A, "old", TOKENS)
        book.clock.now += DAY
    assert len({day for day, *_ in book.ledger.days()}) == DAYS
    book.clock.now += (DAYS + 1) * DAY
    book.ledger.add(A, "new", TOKENS)
    assert [name for name, *_ in book.ledger.sessions()] == [session_id("new")]
    monkeypatch.setattr(module, "MOST_ROWS", 3)
    monkeypatch.setattr(module, "MOST_SESSIONS", 2)
    book.clock.now += DAY
    for number in range(9):
        book.ledger.add(Place(f"c{number}", "m", "u"), f"s{number}", TOKENS)
    assert [name for _, name in book.days()] == ["c6", "c7", "c8"]
    assert len(list(book.ledger.sessions())) == 2


def test_q03_what_was_counted_survives_a_restart(book: Book) -> None:
    """Q03: all of it, and what was counted since is added."""
    book.ledger.add(A, "s", TOKENS, another=True)
    book.ledger.add(A, "s", TOKENS, lost=True)
    written = json.loads(json.dumps(book.ledger.rows()))
    after = Book()
    after.ledger.add(A, "s", TOKENS)
    after.ledger.add(B, "t", TOKENS)
    after.ledger.restore(written)
    assert after.days() == {("2026-11-29", "a"): 200, ("2026-11-29", "b"): 100}
    rows = {name: row for name, _, row in after.ledger.sessions()}
    assert list(rows) == [session_id("t"), session_id("s")]
    both = rows[session_id("s")]
    assert (both.calls, both.another, both.lost, both.usage.input, both.lost_usage) == (2, 1, 1, 200, TOKENS)
    again = Book()
    again.ledger.restore(after.ledger.rows())
    assert again.ledger.rows() == after.ledger.rows()


def test_q03_days_of_the_future_and_of_long_ago_are_not_believed(book: Book) -> None:
    """Q03: a clock that was wrong once does not keep rows for ever."""
    row = {"credential": "a", "model": "m1", "upstream": "u", "since": 1, "last": 1, "calls": 1}
    days = ("2026-01-01", "2026-11-28", "2026-11-30", "2031-01-01")
    book.ledger.restore([{**row, "day": day} for day in days])
    assert [day for day, *_ in book.ledger.days()] == ["2026-11-28", "2026-11-30"]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["day", "session", "credential", "model", "upstream", "since", "last", "calls", "usage",
                         "input"]), inner, max_size=9),
    max_leaves=20,
))  # fmt: skip
def test_h09_a_damaged_file_raises_nothing_but_valueerror(entry: object) -> None:
    """H09: whatever stands in the file."""
    ledger = Book().ledger
    try:
        ledger.restore([entry])
    except ValueError:
        assert list(ledger.days()) == []
    assert isinstance(json.dumps(ledger.rows()), str)


def test_q03_the_state_file_is_not_written_for_every_call(book: Book) -> None:
    """Q03: at once for the first, then only every half minute, and not at all without news."""
    start = book.ledger.version
    book.ledger.add(A, "", TOKENS)
    first = book.ledger.version
    assert first == start + 1
    book.ledger.add(A, "", TOKENS)
    book.clock.now += WRITE_EVERY - 1
    assert book.ledger.version == first
    book.clock.now += 1
    assert book.ledger.version == first + 1
    book.clock.now += WRITE_EVERY
    assert book.ledger.version == first + 1
