"""What `understudy replay` says in sum."""

from __future__ import annotations

from collections.abc import Iterable

from mitmproxy import http

from tests.support.decisions import NOW
from tests.support.saved_flows import LIMITED, ODD, attempt, flow, noted
from tests.whatif.test_simulation import SURE, play
from understudy.whatif import summary as whatifsum
from understudy.whatif.ordering import Counts
from understudy.whatif.summary import ASSUMPTIONS, Summary


def summed(saved: Iterable[http.HTTPFlow], counts: Counts | None = None) -> Summary:
    summary = Summary(counts or Counts())
    for played in play(saved, SURE):
        summary.add(played)
    return summary


SAVED = [
    attempt(1, "work", "rate_limited", 429, LIMITED, headers={"retry-after": "20"}),
    flow(facts=noted(("work", "rate_limited"), ("home", "ok"))),
    flow(500, ODD, at=NOW + 5, facts=noted(("work", "overloaded"), exchange="b")),
    flow(418, {"error": {"message": "Seat 18 is not staffed today"}}, at=NOW + 60),
    flow(418, ODD, at=NOW + 70),
    flow(model="other", at=NOW + 80),
]


def test_everything_is_counted() -> None:
    summary = summed(SAVED, Counts(flows=9, calls=5, attempts=1))
    lines = summary.lines()
    assert lines[0] == "9 flows: 5 model calls, 1 abandoned attempt of theirs, 3 others"
    assert "  rescued         1  another recorded reply answers" in lines
    assert "  failed          2  a real error reaches the tool" in lines
    assert any(line.startswith("  open            1") for line in lines)
    assert "suspended: candidate work m1 1" in lines
    assert "errors that no rule recognises: 2" in lines
    assert lines[-3:] == list(ASSUMPTIONS)


def test_the_same_unknown_error_is_told_once() -> None:
    """Numbers in it are different each time, its status is not."""
    summary = summed(SAVED)
    assert list(summary.unknown.values()) == [(2, "#4")]
    (kind,) = summary.unknown
    assert kind == "HTTP 418: Seat … is not staffed today"
    assert "       2  HTTP 418: Seat … is not staffed today (first in #4)" in summary.lines()


def test_what_is_told_apart_is_bounded(monkeypatch: object) -> None:
    """Law 10: a file may hold any number of different errors."""
    assert whatifsum.KINDS == 50
    names = ["".join(chr(97 + (number // 26**place) % 26) for place in range(2)) for number in range(80)]
    saved = [flow(418, {"error": {"message": f"No {name}"}}, at=NOW + at) for at, name in enumerate(names)]
    summary = summed(saved)
    assert len(summary.unknown) == 51
    assert summary.unknown["others"][0] == 30


def test_a_call_that_failed_then_and_is_answered_now() -> None:
    saved = [
        attempt(1, "work", "unknown", 429, LIMITED),
        attempt(2, "home", "ok", 200, None),
        flow(503, ODD, headers={"x-understudy": "answer"}, facts=noted(("work", "unknown"), ("home", "ok"), answer=0)),
    ]
    assert summed(saved).saved == 1
    assert summed([flow(), flow(at=NOW + 2)]).saved == 0


def test_the_sum_as_json() -> None:
    found = summed(SAVED).as_json()["summary"]
    assert isinstance(found, dict)
    assert found["ends"]["rescued"] == 1
    assert found["unknown"] == [{"evidence": "HTTP 418: Seat … is not staffed today", "count": 2, "first": "#4"}]
    assert found["assumptions"] == list(ASSUMPTIONS)
