"""What is told of a candidate's limits and turns: as values, as JSON, and as lines (Q01, Q02)."""

from __future__ import annotations

import json

import pytest

from tests.support.decisions import NOW, Stage, candidate, route
from understudy.control.result_text import as_json, as_lines
from understudy.control.results import Several
from understudy.control.status import NEARLY_USED_UP, Explanation, explain
from understudy.failover import Pacing, Request
from understudy.inspection import Tallies
from understudy.model import Strategy

A, B = candidate("a", "claude-opus-4-5"), candidate("b")


def told(stage: Stage, strategy: Strategy = Strategy.ORDERED) -> Explanation:
    request = Request("gpt-5", generating=False, streamed=False, blocked={})
    lineup = stage.lineup(route(A, B, strategy=strategy))
    return explain(request, lineup, stage.selector, Tallies(stage.clock), stage.pacing)


def hears(stage: Stage, used: float) -> None:
    window = "anthropic-ratelimit-unified-5h"
    stage.suspensions.limits.hear(
        A, [(f"{window}-utilization", str(used)), (f"{window}-reset", str(int(NOW + 7200)))], 0.0
    )


def test_q01_a_window_is_told_with_its_reset_and_a_forecast() -> None:
    """Q01: the same in the JSON of `status`, and in words."""
    stage = Stage()
    for minute in range(5):
        hears(stage, 0.6 + 0.05 * minute)
        stage.clock.now += 60
    result = told(stage)
    [limit] = json.loads(as_json(Several((result,))))["results"][0]["candidates"][0]["limits"]
    assert (limit["name"], limit["of"], limit["whose"], limit["low"]) == ("5h", "plan", "credential", False)
    assert (limit["used"], limit["left"]) == pytest.approx((0.8, 0.2))
    assert (limit["reset"], limit["seconds"], limit["read"]) == (NOW + 7200, 6900, NOW + 240)
    assert limit["empty_in"] == pytest.approx(180)
    assert limit["forecast"] == "used up in about 3m, resets in 1h55m"
    lines = as_lines(Several((result,)), "understudy ")
    assert "   5h of the credential: 20% left, resets in 1h55m; used up in about 3m" in lines
    assert result.candidates[1].limits == ()


@pytest.mark.parametrize("strategy", [Strategy.ORDERED, Strategy.SOONEST_RESET])
def test_q01_who_goes_behind_is_told(strategy: Strategy) -> None:
    stage = Stage()
    hears(stage, 0.99)
    standing = next(each for each in told(stage, strategy).candidates if each.credential == "a")
    assert standing.note == NEARLY_USED_UP
    assert standing.limits[0].low
    assert standing.place == (1 if strategy is Strategy.ORDERED else 2)


def test_q02_calls_under_way_and_waiting_are_told() -> None:
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"a": 1})
    held = [stage.open(route(A, B)) for _ in range(3)]
    result = told(stage)
    first = result.candidates[0]
    assert (first.under_way, first.queued, first.concurrency) == (1, 2, 1)
    assert "   1 call under way of 1 at a time, 2 waiting" in as_lines(Several((result,)), "understudy ")
    del held
