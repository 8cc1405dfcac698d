"""H06: durations do not jump with the wall clock, and what is told in wall time follows it."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.decisions import OTHER, Stage, candidate, reply, route
from understudy.codec.steady_clock import STEADY, SteadyClock, ahead_of
from understudy.config.secrets.command import MARGIN, CommandSecret
from understudy.control.status import State, held
from understudy.failover import Attempt, Exchange, Refuse, Release, Wait
from understudy.inspection.journal import FlowJournal
from understudy.inspection.tallies import Tallies
from understudy.model import Key, Label, Pool, Scope, Suspension, key_of
from understudy.proxy.engine import Engine
from understudy.rules import RuleLibrary
from understudy.suspensions import Suspensions
from understudy.suspensions.snapshot import decode, encode, restore, urls_of

HOUR = 3600.0
A, X = candidate("a"), candidate("x", at=OTHER)
KEY = Key(Scope.CREDENTIAL, "a")


class Times:
    """Both clocks of a system, moved by hand."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_700_000_000.0, 50.0
        self.clock = SteadyClock(lambda: self.wall, lambda: self.monotonic)

    def pass_by(self, seconds: float) -> None:
        """Time goes by."""
        self.wall += seconds
        self.monotonic += seconds


@pytest.fixture
def times() -> Times:
    return Times()


def suspension(now: float, seconds: float = 60.0) -> Suspension:
    return Suspension(KEY, now, now + seconds, Label.RATE_LIMITED, "test/rule", "slow down", "retry-after")


def test_it_begins_as_unix_time(times: Times) -> None:
    assert times.clock() == times.wall
    times.pass_by(10)
    assert (times.clock(), ahead_of(times.clock)) == (times.wall, 0.0)


@pytest.mark.parametrize(("step", "ahead"), [(0.5, 0.0), (-0.5, 0.0), (0.75, 0.75), (-0.75, -0.75)])
def test_half_a_second_is_no_step(times: Times, step: float, ahead: float) -> None:
    """Two clocks drift, and some time passes between two readings."""
    times.wall += step
    assert ahead_of(times.clock) == ahead


@pytest.mark.parametrize("step", [-HOUR, HOUR, -1e9])
def test_setting_the_wall_clock_moves_no_duration(times: Times, step: float) -> None:
    """H06: forward and back."""
    before = times.clock()
    times.wall += step
    times.pass_by(7)
    assert times.clock() == before + 7
    assert ahead_of(times.clock) == pytest.approx(step)
    assert ahead_of(lambda: 5.0) == 0.0


def test_drift_is_no_step(times: Times) -> None:
    """What is told twice stays the same to the digit while nobody sets a clock."""
    times.wall += 0.2
    assert ahead_of(times.clock) == 0.0


def test_the_clock_of_the_process_does_not_follow_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    before = STEADY()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - HOUR)
    assert STEADY() >= before
    assert ahead_of(STEADY) == pytest.approx(-HOUR, abs=60)


def test_everything_that_measures_uses_it() -> None:
    """H06: one clock for the engine, its suspensions, its memory, the journal and secrets with an end."""
    engine = Engine(RuleLibrary().ruleset)
    assert engine.clock is engine.suspensions.clock is engine.memory.clock is STEADY
    assert FlowJournal().clock is STEADY
    assert CommandSecret(["true"], Path())._clock is STEADY


def test_a_suspension_runs_as_long_as_it_was_to_and_is_told_in_wall_time(times: Times) -> None:
    suspensions = Suspensions(times.clock)
    suspensions.suspend(suspension(times.clock()))
    times.wall -= HOUR
    times.pass_by(20)
    ((entry,), _) = held(suspensions)
    assert (entry.state, entry.seconds) == (State.SUSPENDED, 40.0)
    assert (entry.since, entry.until) == (times.wall - 20, times.wall + 40)
    times.pass_by(40)
    ((entry,), _) = held(suspensions)
    assert entry.state is State.HALF_OPEN


def test_the_state_file_is_in_wall_time(times: Times) -> None:
    """H06: what was written after the clock was set means the same to a proxy that starts afterwards, and back."""
    pool = Pool({A.upstream.name: A.upstream}, {"a": A.credential})
    suspensions = Suspensions(times.clock)
    suspensions.suspend(suspension(times.clock()))
    times.wall += HOUR
    times.pass_by(10)
    ladders = list(suspensions.ladders)
    text = encode(suspensions, ladders, urls_of(pool), times.clock(), ahead=ahead_of(times.clock))
    assert json.loads(text)["written"] == times.wall
    assert json.loads(text)["suspensions"][0]["until"] == times.wall + 50

    started = Times()
    started.wall = times.wall
    later = Suspensions(SteadyClock(lambda: started.wall, lambda: started.monotonic))
    assert restore(decode(text), pool, later) == 1
    assert [each.until - later.clock() for each in later] == [50.0]

    times.wall -= 2 * HOUR  # the same proxy reads it again, after the clock was set back
    again = Suspensions(times.clock)
    stated = json.loads(text)["suspensions"][0]["until"] - times.wall
    restore(decode(text), pool, again)
    assert [each.until - again.clock() for each in again] == [pytest.approx(stated)]


def test_a_date_of_a_vendor_is_wall_time() -> None:
    """H06: a proxy that started with a wrong clock understands dates once it was set right."""
    stage = Stage()
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(stage.now + HOUR + 90))
    limited = replace(reply(Label.RATE_LIMITED), headers=(("retry-after", date),))
    exchange, _ = stage.open(route(A, X), ahead=HOUR)
    exchange.judge(limited, stage.now)
    assert list(stage.suspended().values()) == [pytest.approx(90.0)]


def test_an_expiry_of_a_secret_is_wall_time(tmp_path: Path, times: Times) -> None:
    times.wall -= HOUR
    expiry = times.wall + 1000
    printed = json.dumps({"token": "sk-from-a-command-0123456789", "expires_at": expiry})
    source = CommandSecret(["sh", "-c", f"printf %s {shlex.quote(printed)}"], tmp_path, clock=times.clock)
    asyncio.run(source.fetch())
    times.pass_by(1000 - MARGIN - 1)
    assert source.at_hand()
    times.pass_by(1)
    assert not source.at_hand()


def test_the_time_line_is_wall_time_and_its_spans_are_not(times: Times) -> None:
    stage = Stage()
    stage.clock.now = times.clock()
    tallies = Tallies(times.clock)
    exchange, _ = stage.open(route(A, X))
    times.wall -= HOUR
    times.pass_by(3)
    stage.clock.now = times.clock()
    assert isinstance(exchange.judge(reply(Label.OK), stage.now), Release)
    tallies.released("flow", exchange, 1)
    (told,) = tallies.exchanges()
    assert (told.time, told.released) == (times.wall - 3, 3.0)
    assert tallies.of("a", "m1").last_answered == times.wall


def waiting() -> tuple[Stage, Exchange]:
    """An exchange that waits for A; nobody else may be asked."""
    stage = Stage()
    stage.suspend(A, 2.0, hint="retry-after", label=Label.RATE_LIMITED)
    exchange, step = stage.open(route(A, X), blocked={"other": "not now"})
    assert isinstance(step, Wait)
    return stage, exchange


def test_a_clock_that_is_set_back_gives_no_budget_back() -> None:
    """W04: should the clock of a caller go back in a wait, no second is given back."""
    stage, exchange = waiting()
    stage.clock.now -= HOUR
    stage.suspensions.resume(key_of(A, Scope.CANDIDATE))
    assert isinstance(exchange.resume(stage.now), Attempt)
    assert exchange.waited == 0.0


def test_a_clock_that_is_set_back_makes_no_wait_longer() -> None:
    """W02: what comes back in ten minutes is not waited for because the clock went back after the exchange was made."""
    stage = Stage()
    exchange = stage.exchange(route(A, X), blocked={"other": "not now"})
    stage.clock.now -= HOUR
    stage.suspend(A, 600.0, hint="retry-after", label=Label.RATE_LIMITED)
    assert isinstance(exchange.begin(stage.now), Refuse)
