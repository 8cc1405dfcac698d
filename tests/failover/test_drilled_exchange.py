"""The exchange of a call that belongs to a drill (H12): what it makes up stays apart, and takes nobody's place."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.decisions import OTHER, RULES, Stage, Steady, candidate, reply, route
from understudy.failover.drilled_exchange import DrilledExchange
from understudy.failover.pacing import Pacing
from understudy.failover.selection import DrilledLineup, Selector
from understudy.failover.steps import Attempt, Outcome, Request
from understudy.model import Candidate, Label, Scope, key_of
from understudy.suspensions import Answers, Learned, Pace

A, A2 = candidate("a"), candidate("a", "m2")
B, C = candidate("b"), candidate("c", at=OTHER)
OK = reply(Label.OK)


class Struck:
    """A drill that answers for these candidates; ``asks``: it asks the real upstream first."""

    kind = said = "429"

    def __init__(self, stage: Stage, *targets: Candidate, asks: bool = False) -> None:
        self.targets = targets
        self.asks = asks
        self.learned = Learned(stage.clock)
        self.answers = Answers()
        self.broken: list[Outcome] = []

    def strikes(self, candidate: Candidate, *, generating: bool) -> bool:
        return candidate in self.targets

    def broke(self, request: Request, outcome: Outcome) -> None:
        self.broken.append(outcome)

    def over(self, exchange: Any, status: int) -> None:
        """Nobody counts here."""


def drilled(stage: Stage, drill: Struck, *members: Candidate, generating: bool = True) -> DrilledExchange:
    """A call of a drill, under way."""
    selector = Selector(stage.suspensions, DrilledLineup)
    request = Request("gpt-5", generating, True, {})
    lineup = selector.lineup_like(stage.lineup(route(*members)))
    made = DrilledExchange(request, lineup, selector, RULES, stage.now, Steady(), stage.sessions, stage.pacing, drill)
    made.begin(stage.now)
    return made


def begun(*targets: Candidate, asks: bool = False) -> tuple[Stage, Struck]:
    stage = Stage()
    stage.suspensions.begin_drill()
    return stage, Struck(stage, *targets, asks=asks)


def test_h12_only_what_the_drill_answers_is_drilled() -> None:
    stage, drill = begun(A)
    exchange = drilled(stage, drill, A, B)
    assert exchange.attempt is not None and exchange.attempt.drilled
    step = exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    assert step == Attempt(2, B)
    assert exchange.attempt is not None and not exchange.attempt.drilled


@pytest.mark.parametrize("asks", [True, False])
def test_h12_an_attempt_that_asks_nobody_takes_nobodys_place(asks: bool) -> None:
    """H12, Q02: of a credential with a limit; one whose reply is only spoilt is under way like any other."""
    stage, drill = begun(A, asks=asks)
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"a": 1})
    exchange = drilled(stage, drill, A, B)
    assert stage.pacing.of("a") == (1 if asks else 0, 0, 1)
    exchange.finished()
    real = drilled(stage, Struck(stage), A, B)
    assert stage.pacing.of("a") == (1, 0, 1)
    real.finished()


def test_h12_a_made_up_reply_says_nothing_about_the_real_one() -> None:
    """H12: no time of a first event, no answer of its model, no connection that has served, no suspension."""
    stage, drill = begun(A)
    stage.suspensions.closed("openai", "b", stage.now, stage.now)
    exchange = drilled(stage, drill, A, B)
    exchange.spoke(A, 3.0)
    exchange.accept()
    exchange.succeeded()
    times = stage.suspensions.first_events
    assert times.pace((key_of(A, Scope.CANDIDATE), True)) is None
    assert not stage.suspensions.answers.answered_since(("a", 0), 0.0)
    assert stage.suspensions.closed("openai", "c", stage.now, stage.now) == "b"
    other = drilled(stage, drill, B, A)
    other.spoke(B, 3.0)
    other.accept()
    assert times.pace((key_of(B, Scope.CANDIDATE), True)) == Pace(3.0, 3.0, 1)
    assert stage.suspensions.answers.answered_since(("b", 0), stage.now)
    assert stage.suspensions.closed("openai", "c", stage.now, stage.now) == ""


def test_h12_who_was_silent_for_a_drill_is_not_known_as_slow() -> None:
    """H12, A05: and whoever was silent for real beside it is."""
    for drill_on, slow in ((A, False), (B, True)):
        stage, drill = begun(drill_on)
        exchange = drilled(stage, drill, A, B)
        stage.clock.now += 15
        hedge = exchange.hedge(A, stage.now)
        assert hedge is not None and hedge.candidate == B
        exchange.accept(B)
        pace = stage.suspensions.first_events.pace((key_of(A, Scope.CANDIDATE), True))
        assert (pace is not None) is slow


def test_h12_j05_a_made_up_refusal_is_as_wide_as_made_up_and_real_answers_say() -> None:
    """H12, J05: what the drill has heard counts for it, and for nobody else."""
    quota = reply(Label.QUOTA_EXHAUSTED)
    for made_up, scope in ((False, Scope.CANDIDATE), (True, Scope.CREDENTIAL)):
        stage, drill = begun(A)
        stage.suspensions.answers.answered(("a", 0), "m2", stage.now)
        if made_up:
            drill.answers.refused(("a", 0), "m3", stage.now)
        exchange = drilled(stage, drill, A, B)
        exchange.judge(quota, stage.now)
        assert [each.key for each in stage.suspensions] == [key_of(A, scope, drill=True)]
        assert drill.answers.is_whole(("a", 0), "m2", stage.now)
        real, _ = stage.open(route(A2, B))
        real.judge(quota, stage.now)
        assert key_of(A2, Scope.CREDENTIAL) in stage.suspended()


def test_h12_what_breaks_after_its_release_is_told_to_the_drill() -> None:
    """H12: whether it was struck or not; an end that costs nothing is not told."""
    stage, drill = begun(A)
    for members in ((A, B), (B, A)):
        exchange = drilled(stage, drill, *members)
        exchange.accept()
        assert exchange.failed_after_release(reply(Label.CONTENT_FILTERED, status=200), stage.now) is None
        outcome = exchange.failed_after_release(reply(Label.OVERLOADED, status=200), stage.now)
        assert outcome is not None and drill.broken[-1] == outcome
    assert len(drill.broken) == 2


def test_h12_j01_a_comparison_of_a_drill_is_learnt_for_the_drill() -> None:
    odd = reply(Label.UNKNOWN, status=400, certain=False, message="odd")
    stage, drill = begun(A)
    exchange = drilled(stage, drill, A, C)
    assert exchange.judge(odd, stage.now) == Attempt(2, C, opinion=True)
    exchange.judge(OK, stage.now)
    assert (len(drill.learned), drill.learned.asked) == (1, 1)
    assert (len(stage.suspensions.learned), stage.suspensions.learned.asked) == (0, 0)
