"""The command `usage`: since when, by what, with costs; and the reports of several workers as one (Q03)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from tests.control.test_control import POOL, Desk
from tests.support.decisions import NOW
from understudy.control.result_text import as_json, as_lines
from understudy.control.target import ControlError
from understudy.control.usage import report
from understudy.control.usage_report import UsageReport, merged, of_json, usage_lines
from understudy.inspection.usage import Place, UsageLedger, session_id
from understudy.model import Candidate, Key, Price, Scope, Usage, key_of

WORK, HOME = Place("work", "gpt-5", "openai"), Place("home", "gpt-5", "openai")
TOKENS = Usage(1_000_000, 200_000, 400_000, 0, 50_000)
PRICED_OPENAI = replace(POOL.upstreams["openai"], prices=(("gpt-5*", Price(2.0, 10.0, 0.2)),))
PRICED = replace(POOL, upstreams={**POOL.upstreams, "openai": PRICED_OPENAI})


@pytest.fixture
def desk() -> Desk:
    """Two candidates that have given something: one on two days, and one reply that was lost."""
    made = Desk(PRICED)
    ledger = made.tallies.usage
    ledger.add(WORK, "first", TOKENS)
    made.clock.now += 86400
    ledger.add(WORK, "first", TOKENS, another=True)
    ledger.add(HOME, "second", Usage(10, 5))
    ledger.add(HOME, "second", None)
    ledger.add(HOME, "second", Usage(7), lost=True)
    ledger.add(Place("router", "x", "other"), "", Usage(1, 1))
    return made


def key(name: str) -> Key:
    """The key of a candidate."""
    return key_of(Candidate(POOL.credentials[name], "gpt-5"), Scope.CANDIDATE)


def asked(desk: Desk, *words: str) -> UsageReport:
    """What the command comes to."""
    found = desk.control.run("usage", words, "alice")
    assert isinstance(found, UsageReport)
    return found


def test_q03_by_candidate(desk: Desk) -> None:
    """Q03: the largest first, with the total; what was lost stands apart, and costs what it costs."""
    found = asked(desk)
    assert [(row.credential, row.model, row.spent.calls, row.spent.input) for row in found.rows] == [
        ("work", "gpt-5", 2, 2_000_000),
        ("home", "gpt-5", 2, 10),
        ("router", "x", 1, 1),
    ]
    work, home, router = (row.spent for row in found.rows)
    assert work.cost == pytest.approx(2 * (0.6 * 2 + 0.4 * 0.2 + 0.2 * 10))
    assert (home.unstated, home.lost, home.lost_input) == (1, 1, 7)
    assert home.lost_cost == pytest.approx(14e-6)
    assert (router.cost, router.unpriced) == (None, 1)
    assert (found.total.calls, found.total.another, found.total.unpriced) == (5, 1, 1)
    assert found.total.cost == pytest.approx((work.cost or 0) + (home.cost or 0))


def test_q03_by_day_and_session(desk: Desk) -> None:
    """Q03: days in their order; sessions by their hash, the latest first, each as one."""
    today, before = (desk.tallies.usage.day(at) for at in (desk.clock.now, NOW))
    assert [(row.day, row.credential, row.spent.calls) for row in asked(desk, "all", "day").rows] == [
        (before, "", 1),
        (today, "", 4),
    ]
    both = asked(desk, "all", "day,candidate").rows
    assert [(row.day, row.credential) for row in both] == [
        (before, "work"),
        (today, "work"),
        (today, "home"),
        (today, "router"),
    ]
    sessions = asked(desk, "session").rows
    assert {row.session: row.spent.calls for row in sessions} == {session_id("second"): 2, session_id("first"): 2}


def test_q03_since(desk: Desk) -> None:
    """Q03: a day, so many days, or today."""
    today, before = (desk.tallies.usage.day(at) for at in (desk.clock.now, NOW))
    for word in ("today", "1d", today):
        assert [row.spent.calls for row in asked(desk, word).rows] == [1, 2, 1], word
    for word in ("2d", "400d", before, "all"):
        assert asked(desk, word).total.calls == 5, word
    assert {row.session for row in asked(desk, "today", "session").rows} == {session_id("first"), session_id("second")}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("yesterday",), "`yesterday` is no day: write `today`, `7d`"),
        (("0d",), "is no day"),
        (("2026-13-01",), "is no day"),
        (("today", "7d"), "`7d` after the day: write `candidate`, `day`"),
        (("today", "session,day"), "`session` stands with other groups"),
        (("a", "b", "c"), "3 words after the command: write `usage [SINCE] [GROUPS]`"),
    ],
)
def test_q03_what_cannot_be_answered_is_told(desk: Desk, words: tuple[str, ...], said: str) -> None:
    """Q03: with what to write instead."""
    with pytest.raises(ControlError, match=said.replace("[", r"\[").replace("]", r"\]")):
        asked(desk, *words)


def test_q03_as_text(desk: Desk) -> None:
    """Q03: a table for people, and below it what its numbers leave out."""
    text = "\n".join(as_lines(asked(desk), "pool."))
    assert text.splitlines()[0] == "tokens of all days that are kept, by candidate"
    assert text.splitlines()[1].split() == ["calls", "input", "cached", "output", "reasoning", "cost"]
    assert text.splitlines()[2].split() == [
        "work",
        "gpt-5",
        "2",
        "2,000,000",
        "800,000",
        "400,000",
        "100,000",
        "6.5600",
    ]
    assert text.splitlines()[4].split() == ["router", "x", "1", "1", "0", "1", "0", "-"]
    assert text.splitlines()[5].startswith("total")
    assert "not in it: 1 reply that no tool got (replays, hedges): 7 in, 0 out, cost 0.0000" in text
    assert "1 call counted no tokens" in text
    assert "1 call named another model than was sent" in text
    assert "1 call without a price" in text
    assert as_lines(asked(Desk()), "pool.") == ["no tokens were counted of all days that are kept"]
    assert "cost" not in "\n".join(as_lines(asked(Desk(), "today"), "pool."))


def test_q03_as_json(desk: Desk) -> None:
    """Q03: everything that the table shows, and what it leaves out; it can be read again."""
    found = asked(desk, "all", "day,candidate")
    assert of_json(json.loads(as_json(found))) == found
    assert of_json(json.loads(json.dumps(asdict(found)))) == found


def test_q03_several_workers_are_one_report(desk: Desk) -> None:
    """Q03: each has counted its own calls; rows of the same candidate become one."""
    one, other = asked(desk), asked(Desk(PRICED))
    assert merged([one, one, other]).total.calls == 10
    assert [row.spent.input for row in merged([one, one]).rows] == [4_000_000, 20, 2]
    assert merged([other, one]).rows == one.rows
    sessions = merged([asked(desk, "session")] * 2).rows
    assert [row.spent.calls for row in sessions] == [4, 4]
    assert usage_lines(merged([one, other])) == usage_lines(one)


def test_q03_a_report_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Q03, law 10: the largest rows, or the latest days, and the number of the others."""
    monkeypatch.setattr("understudy.control.usage_report.MOST_ROWS", 2)
    desk = Desk()
    ledger: UsageLedger = desk.tallies.usage
    for number in range(4):
        ledger.add(Place(f"c{number}", "m", "u"), f"s{number}", Usage(number))
        desk.clock.now += 86400
    found = asked(desk)
    assert ([row.credential for row in found.rows], found.more) == (["c3", "c2"], 2)
    assert found.total.input == 6
    assert "and 2 more" in as_lines(found, "pool.")
    days = asked(desk, "day")
    assert [row.spent.input for row in days.rows] == [2, 3]
    assert [row.spent.input for row in asked(desk, "session").rows] == [3, 2]


def test_q05_a_candidate_says_how_fast_it_was(desk: Desk) -> None:
    """Q05, Q03: `explain` has median, 95th percentile, speed, failures and tokens; `pool.json` the same."""
    for seconds in (1.0, 2.0, 3.0, 9.0):
        desk.engine.suspensions.first_events.spoke((key("work"), True), seconds)
    desk.engine.suspensions.first_events.spoke((key("home"), False), 4.0)
    lately = desk.tallies._late(("work", "gpt-5"))
    lately.count(int(desk.clock.now // 300), failed=True)
    lately.add_speed(100, 2.0)
    lately.served = "gpt-5-mini"
    text = desk.text("explain gpt-5")
    said = "first event after 2.0s (95 %: 9.0s), 50 tokens/s, 1 failed in the last hour, today 1,000,000 tokens in"
    assert said in text
    assert "its replies name another model than was sent: gpt-5-mini" in text
    work, home, router = json.loads(as_json(desk.run("explain gpt-5")))["results"][0]["candidates"]
    assert work["pace"] == {"median": 2.0, "p95": 9.0, "calls": 4}
    assert (work["speed"], work["failed_hour"], work["served"]) == (50.0, 1, "gpt-5-mini")
    assert (work["today"]["input"], work["today"]["another"]) == (1_000_000, 1)
    assert home["pace"] == {"median": 4.0, "p95": 4.0, "calls": 1}
    assert (router["pace"], router["speed"], router["today"], list(router["hour"])) == (None, None, None, [])


def test_q03_no_pool_no_prices() -> None:
    """Q03: what was counted is told without a pool as well."""
    desk = Desk(None)
    desk.tallies.usage.add(WORK, "", TOKENS)
    assert report(desk.tallies.usage, replace(POOL, upstreams={}), ()).total.cost is None
    assert asked(desk).total.calls == 1
