"""A call is held until a reset that is known, where its route says so (section 5e, item `until_reset`)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import Stage, candidate, reply, route
from understudy.failover import Attempt, Refuse, Release, Wait
from understudy.failover.exchange import HELD
from understudy.model import Budget, Candidate, Label, Scope, key_of

A, B = candidate("a"), candidate("b")
HOURS = 6 * 3600.0
ON = replace(route(A, B, budget=Budget(wait=5)), until_reset=HOURS)


def out(stage: Stage, who: Candidate, seconds: float, label: Label = Label.QUOTA_EXHAUSTED) -> None:
    stage.suspend(who, seconds, label=label, hint="retry-after")


def test_a_call_is_held_until_the_first_reset_and_has_its_whole_budget_then() -> None:
    stage = Stage()
    out(stage, A, 7200)
    out(stage, B, 3600)
    exchange, step = stage.open(ON)
    assert step == Wait(3600, HELD, held=True)
    stage.clock.now += 3600
    assert exchange.resume(stage.now) == Attempt(1, B)
    assert exchange.held == 3600
    assert exchange.waited == 0
    assert exchange.deadline == pytest.approx(stage.now + ON.budget.seconds)
    assert exchange.judge(reply(Label.OK), stage.now) == Release(1)


def test_a_call_that_was_refused_itself_is_held_and_asks_each_once_more() -> None:
    """Law 2: nobody is asked three times."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    assert exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="600"), stage.now) == Attempt(2, B)
    step = exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="900"), stage.now)
    assert step == Wait(600, HELD, held=True)
    stage.clock.now += 600
    assert exchange.resume(stage.now) == Attempt(3, A, repeat=True)
    step = exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="600"), stage.now)
    assert isinstance(step, Wait)
    stage.clock.now += step.seconds
    assert exchange.resume(stage.now) == Attempt(4, B, repeat=True)
    step = exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="600"), stage.now)
    while isinstance(step, Wait):
        stage.clock.now += step.seconds
        step = exchange.resume(stage.now)
    assert isinstance(step, Release)
    assert len(exchange.outcomes) == 4


@pytest.mark.parametrize("case", ["off", "too far", "not stated", "by hand", "one is free again", "a count"])
def test_it_is_held_for_nothing_else(case: str) -> None:
    stage, on, generating = Stage(), ON, True
    out(stage, A, 3600)
    match case:
        case "off":
            on = replace(ON, until_reset=0.0)
            out(stage, B, 3600)
        case "too far":
            out(stage, A, HOURS + 60)
            out(stage, B, HOURS + 60)
        case "not stated":
            stage.suspend(B, 3600, label=Label.RATE_LIMITED)
        case "by hand":
            stage.suspend(B, 3600, label=Label.MODEL_UNSUPPORTED, hint="")
        case "one is free again":
            pass
        case "a count":
            generating = False
            out(stage, B, 3600)
    _, step = stage.open(on, generating=generating)
    assert step == Attempt(1, B) if case == "one is free again" else isinstance(step, Refuse)


def test_a_short_wait_is_a_wait_as_ever() -> None:
    stage = Stage()
    for each in (A, B):
        out(stage, each, 4, Label.RATE_LIMITED)
    _, step = stage.open(ON)
    assert isinstance(step, Wait)
    assert not step.held


def test_a_hand_ends_it() -> None:
    stage = Stage()
    for each in (A, B):
        out(stage, each, 3600)
    exchange, step = stage.open(ON)
    assert isinstance(step, Wait)
    stage.suspensions.resume_all()
    assert exchange.is_ready()
    assert exchange.resume(stage.now) == Attempt(1, A)


def test_the_sole_candidate_is_waited_for_as_well() -> None:
    stage = Stage()
    out(stage, A, 3600)
    exchange, step = stage.open(replace(route(A), until_reset=HOURS))
    assert step == Wait(3600, HELD, held=True)
    stage.clock.now += 3600
    assert exchange.resume(stage.now) == Attempt(1, A)


def test_whoever_was_left_out_before_a_reset_may_be_asked_again_after_it() -> None:
    """Law 2: but once more; what it had said was hours ago."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    assert exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now) == Attempt(2, B)
    stage.suspend(A, 300, scope=Scope.CREDENTIAL, label=Label.QUOTA_EXHAUSTED, hint="retry-after")
    step = exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="900"), stage.now)
    assert step == Wait(300, HELD, held=True)
    stage.clock.now += 300
    stage.suspensions.resume(key_of(A, Scope.CANDIDATE))
    assert exchange.resume(stage.now) == Attempt(3, A, repeat=True)


@pytest.mark.parametrize(("seconds", "held"), [(HOURS, True), (HOURS + 1, False)])
def test_a_call_is_held_for_as_long_as_its_route_says(seconds: float, held: bool) -> None:
    stage = Stage()
    for each in (A, B):
        out(stage, each, seconds)
    _, step = stage.open(ON)
    assert isinstance(step, Wait) is held


def test_a_hold_is_counted_from_the_start_and_never_as_less_than_nothing() -> None:
    """Law 10: the clock may be set back."""
    stage = Stage()
    for each in (A, B):
        out(stage, each, 3600)
    exchange, _ = stage.open(ON)
    stage.clock.now -= 50
    stage.suspensions.resume_all()
    assert exchange.resume(stage.now) == Attempt(1, A)
    assert exchange.held == 0.0


def test_after_a_reset_the_others_are_asked_as_ever() -> None:
    """Whoever was not asked before is not left out because it was waited for somebody else."""
    stage = Stage()
    out(stage, A, 7200)
    out(stage, B, 3600)
    exchange, _ = stage.open(ON)
    stage.clock.now += 3600
    assert exchange.resume(stage.now) == Attempt(1, B)
    stage.suspensions.resume(key_of(A, Scope.CANDIDATE))
    assert exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now) == Attempt(2, A)
