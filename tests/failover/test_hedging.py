"""Silence (section 5c): a second candidate is asked as well, the first to show output wins, and nobody pays."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support.decisions import OTHER, Stage, candidate, fault, reply, route
from understudy.failover.exchange import Exchange
from understudy.failover.steps import Attempt, Continue, Refuse, Release
from understudy.model import Budget, Candidate, Label, Scope, key_of
from understudy.replies import FaultKind
from understudy.suspensions.first_events import CALLS, ENOUGH, LEAST, FirstEvents

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
OK = reply(Label.OK)
SILENT = fault(FaultKind.SILENCE)


def opened(stage: Stage, *members: Candidate, streamed: bool = True, **facts: Any) -> Exchange:
    budget = facts.pop("budget", Budget())
    exchange = stage.exchange(route(*members, budget=budget), streamed=streamed, **facts)
    assert exchange.begin(stage.now) == Attempt(1, members[0])
    return exchange


def hedged(stage: Stage, *members: Candidate, after: float = 15.0) -> Exchange:
    """Two attempts of one request are under way."""
    exchange = opened(stage, *members)
    stage.clock.now += after
    assert exchange.hedge(members[0], stage.now) == Attempt(2, members[1])
    assert [each.candidate for each in exchange.under_way] == [*members[:2]]
    return exchange


def test_a05_when_another_one_is_asked_as_well() -> None:
    """A05: after `hedge_after`, never later than `first_event`; not for plain calls unless `silence` says so."""
    stage = Stage()

    def ask_at(*members: Candidate, streamed: bool = True, **facts: Any) -> float:
        return opened(stage, *members, streamed=streamed, **facts).ask_at(members[0], stage.now) - stage.now

    assert ask_at(A, B) == 15.0
    assert ask_at(A, B, budget=Budget(first_event=9)) == 9.0
    assert ask_at(A, B, streamed=False) == math.inf
    assert ask_at(A, B, streamed=False, budget=Budget(silence=20)) == 20.0
    for never in (
        ask_at(A),
        ask_at(A, B, budget=Budget(hedge_after=0)),
        ask_at(A, B, budget=Budget(attempts=1)),
        ask_at(A, B, bound_to="a"),
        ask_at(A, B, generating=False),
    ):
        assert never == math.inf


def test_a05_the_limit_follows_the_candidate() -> None:
    """A05: from five calls on twice the 95th percentile of its own times, at least ten seconds."""
    stage = Stage()
    exchange = opened(stage, A, B)
    for _ in range(ENOUGH - 1):
        exchange.spoke(A, 120.0)
    assert exchange.ask_at(A, stage.now) == stage.now + 15.0
    exchange.spoke(A, 120.0)
    assert exchange.ask_at(A, stage.now) == stage.now + 240.0
    assert exchange.ask_at(B, stage.now) == stage.now + 15.0
    plain = opened(stage, A, B, streamed=False, budget=Budget(silence=20))
    assert plain.ask_at(A, stage.now) == stage.now + 20.0, "times of streams say nothing about other calls"


def test_the_times_of_a_candidate_are_bounded() -> None:
    times: FirstEvents[str] = FirstEvents()
    for _ in range(ENOUGH):
        times.spoke("a", 0.2)
    assert times.own_limit("a") == LEAST
    for _ in range(CALLS):
        times.spoke("a", 30.0)
    assert times.own_limit("a") == 60.0
    times.given_up("b", 15.0)
    assert times.own_limit("b") is None
    for _ in range(ENOUGH):
        times.given_up("b", 15.0)
    assert times.own_limit("b") == 60.0


def test_a05_where_slowness_is_normal_nothing_is_asked_twice_after_five_calls() -> None:
    """A05: a model that always thinks for two minutes, and a second one that is faster."""
    stage, twice = Stage(), 0
    for _ in range(12):
        exchange = opened(stage, A, B)
        began = stage.now
        if exchange.ask_at(A, began) < began + 120.0:
            twice += 1
            stage.clock.now = exchange.ask_at(A, began)
            assert exchange.hedge(A, stage.now) is not None
            stage.clock.now = began + 120.0
        stage.clock.now = began + 120.0
        exchange.spoke(A, 120.0)
        exchange.accept(A)
        exchange.succeeded()
    assert twice == ENOUGH


@pytest.mark.parametrize("winner", [A, B])
def test_a05_the_first_to_show_output_wins(winner: Candidate) -> None:
    """A05: the other one is given up, nobody is suspended, and what it cost is told."""
    stage = Stage()
    exchange = hedged(stage, A, B)
    stage.clock.now += 1
    assert exchange.accept(winner) == 2
    lost, won = exchange.outcomes
    assert (lost.hedged, lost.word, won.hedged) == (True, "hedged", False)
    assert {lost.attempt.candidate, won.attempt.candidate} == {A, B}
    assert (lost.attempt.number, won.attempt.number, won.attempt.candidate) == (1, 2, winner)
    waited = 1.0 if winner == A else 16.0
    assert lost.verdict.evidence == f"given up after {waited} s: {winner} was faster"
    assert stage.suspended() == {}
    assert not lost.releasable
    assert exchange.under_way == ()
    assert exchange.best == 2
    exchange.succeeded()
    assert stage.open(route(A, B))[1] == Attempt(1, A)


def test_a05_a_plain_answer_wins_as_well() -> None:
    stage = Stage()
    exchange = hedged(stage, A, B)
    assert exchange.judge(OK, stage.now, B) == Release(2)
    assert [outcome.word for outcome in exchange.outcomes] == ["hedged", "ok"]


@pytest.mark.parametrize("first", [A, B])
def test_a05_a_failure_leaves_the_other_one_to_go_on(first: Candidate) -> None:
    """A05: it is judged and costs what it costs; the numbers are in the order of the ends."""
    stage = Stage()
    exchange = hedged(stage, A, B)
    other = B if first == A else A
    assert exchange.judge(reply(Label.QUOTA_EXHAUSTED), stage.now, first) == Continue()
    assert list(stage.suspended()) == [key_of(first, Scope.CREDENTIAL)]
    assert [each.candidate for each in exchange.under_way] == [other]
    assert exchange.under_way[0].number == 2
    assert exchange.accept(other) == 2
    assert [outcome.attempt.candidate for outcome in exchange.outcomes] == [first, other]


def test_a05_what_is_certain_ends_the_call_for_both() -> None:
    """J03: nobody is led round a filter because another candidate happens to be on its way."""
    stage = Stage()
    exchange = hedged(stage, A, B)
    assert exchange.judge(reply(Label.CONTENT_FILTERED), stage.now, A) == Release(2)
    assert [outcome.word for outcome in exchange.outcomes] == ["hedged", "content_filtered"]


def test_a05_two_at_a_time() -> None:
    """A05: both silent: the older one is given up for the third, and nobody is suspended."""
    stage = Stage()
    exchange = hedged(stage, A, B, C)
    stage.clock.now += 15
    assert exchange.hedge(B, stage.now) == Attempt(3, C)
    assert [each.candidate for each in exchange.under_way] == [B, C]
    assert [each.number for each in exchange.under_way] == [2, 3]
    assert exchange.outcomes[0].word == "hedged"
    assert stage.suspended() == {}
    assert exchange.hedge(B, stage.now) is None, "nobody is left"


def test_a05_both_silent_the_budget_bounds_it() -> None:
    """A05: no reply in hand: at the deadline both are given up, and the answer is ours."""
    stage = Stage()
    exchange = hedged(stage, A, B)
    sent = exchange.started
    assert exchange.end_at(A, sent, stage.now) == exchange.deadline
    assert exchange.end_at(B, stage.now, stage.now) == exchange.deadline
    stage.clock.now = exchange.deadline
    assert exchange.judge(SILENT, stage.now, A) == Continue()
    step = exchange.judge(SILENT, stage.now, B)
    assert isinstance(step, Refuse)
    assert step.status == 503


def test_a05_a_real_reply_in_hand_limits_the_last_candidate() -> None:
    """A05: `first_event` after it was sent; without one a last candidate may take as long as it takes."""
    stage = Stage()
    exchange = opened(stage, A, B)
    assert exchange.judge(reply(Label.QUOTA_EXHAUSTED), stage.now) == Attempt(2, B)
    assert exchange.end_at(B, stage.now, stage.now) == stage.now + 45.0
    assert exchange.judge(SILENT, stage.now + 45) == Release(1, final=True)
    alone = opened(Stage(), A)
    assert alone.end_at(A, stage.now, stage.now) == math.inf
    dropped = opened(Stage(), A, B)
    dropped.judge(fault(FaultKind.CONNECT), stage.now)
    assert dropped.end_at(A, stage.now, stage.now) == math.inf
    plain = opened(Stage(), A, B, streamed=False)
    plain.judge(reply(Label.QUOTA_EXHAUSTED), stage.now)
    assert plain.end_at(B, stage.now, stage.now) == math.inf


def test_a05_a_hedge_is_an_attempt_of_the_budget() -> None:
    """A05: W04: and none begins after `seconds`."""
    stage = Stage()
    exchange = opened(stage, A, B, C, budget=Budget(attempts=2))
    assert exchange.hedge(A, stage.now) == Attempt(2, B)
    assert exchange.hedge(A, stage.now) is None
    assert exchange.spent.attempts == 2
    late = opened(stage, A, B)
    assert late.hedge(A, stage.now + 55) is None


def test_a05_a_hedge_that_cannot_be_built_is_replaced() -> None:
    """A05: W04: it costs nothing, and the silent one goes on meanwhile."""
    stage = Stage()
    exchange = hedged(stage, A, B, C)
    rule = (Label.CREDENTIAL_REJECTED, "builtin/secret", "gone")
    assert exchange.unsendable(*rule, stage.now) == Attempt(3, C)
    assert [each.candidate for each in exchange.under_way] == [A, C]
    assert [each.number for each in exchange.under_way] == [2, 3]
    assert exchange.unsendable(*rule, stage.now) == Continue()
    assert exchange.accept(A) == 3


def test_f14_a_hedged_probe_is_free_again() -> None:
    """F14, L12: whoever loses, or is left by the tool, holds nobody up."""
    for end in ("lost", "cancelled"):
        stage = Stage()
        for each in (A, B):
            stage.suspend(each, 5)
        stage.clock.now += 5
        exchange = hedged(stage, A, B, C)
        assert stage.open(route(A, B, C))[1] == Attempt(1, C)
        if end == "lost":
            exchange.accept(B)
        else:
            exchange.cancelled()
            assert exchange.under_way == ()
        assert stage.open(route(A, B, C))[1] == Attempt(1, A)
