"""Which calls are held until a reset, as it is kept for who looks at the pool (section 5e, item `until_reset`)."""

from __future__ import annotations

import gc
from dataclasses import replace

from tests.support.decisions import Stage, candidate, reply, route
from understudy.failover import Attempt, Exchange, HeldCalls, Pacing, Wait
from understudy.model import Budget, Label

A, B = candidate("a"), candidate("b")
ON = replace(route(A, B, budget=Budget(wait=5)), until_reset=6 * 3600.0)


def out_of_quota() -> tuple[Stage, HeldCalls]:
    """Both are out: A for two hours, B for one."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    for who, seconds in ((A, 7200), (B, 3600)):
        stage.suspend(who, seconds, label=Label.QUOTA_EXHAUSTED, hint="retry-after")
    return stage, stage.pacing.held


def hold(stage: Stage) -> Exchange:
    """A call that is held."""
    exchange, step = stage.open(ON)
    assert isinstance(step, Wait)
    assert step.held
    return exchange


def test_a_call_is_told_while_it_is_held_and_no_longer() -> None:
    """Since when, until when and for whose reset; a look before the reset changes nothing."""
    stage, held = out_of_quota()
    assert held.now() == []
    before = held.version
    exchange, since = hold(stage), stage.now
    [call] = held.now()
    assert (call.route, call.alias, call.dialect) == (ON.pattern, "gpt-5", "openai")
    assert (call.since, call.until, call.candidate) == (since, since + 3600, B)
    assert held.version != before
    stage.clock.now += 10
    assert isinstance(exchange.resume(stage.now), Wait)
    assert held.now() == [call]
    stage.clock.now += 3590
    seen = held.version
    assert exchange.resume(stage.now) == Attempt(1, B)
    assert held.now() == []
    assert held.version != seen


def test_a_call_that_is_held_again_is_told_anew() -> None:
    stage, held = out_of_quota()
    exchange = hold(stage)
    stage.clock.now += 3600
    exchange.resume(stage.now)
    step = exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="7200"), stage.now)
    assert isinstance(step, Wait)
    [call] = held.now()
    assert (call.since, call.candidate) == (stage.now, A)


def test_a_tool_that_goes_away_takes_its_call_along() -> None:
    """L12; the other one stays, and a call that is dropped without a word is gone as well."""
    stage, held = out_of_quota()
    first, second = hold(stage), hold(stage)
    assert len(held.now()) == 2
    first.cancelled()
    first.cancelled()
    [call] = held.now()
    assert call.alias == second.request.alias
    seen = held.version
    del second, call
    gc.collect()
    assert held.now() == []
    assert held.version != seen


def test_a_wait_for_something_else_is_none() -> None:
    """Nor is a route without it."""
    stage, held = out_of_quota()
    stage.open(replace(ON, until_reset=0.0))
    assert held.now() == []
