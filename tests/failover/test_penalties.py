"""What a failure costs: the length of a step, the repeats, and what is imposed for a start."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from tests.support.decisions import NOW, Source, Stage, Steady, candidate, fault, reply, route
from understudy.failover.default_actions import DEFAULTS, FAULT_SCOPE, action
from understudy.failover.penalties import REPEAT_AFTER, SHORT_STEP, Failure, Reason, Repeat, impose, repeat_of, spread
from understudy.failover.steps import Attempt, Continue, Release, Wait
from understudy.model import Budget, Candidate, Label, Scope, Then, Verdict, key_of
from understudy.replies import FaultKind, Hint
from understudy.suspensions import Rung

A, B = candidate("a"), candidate("b")
KEY = key_of(A, Scope.CANDIDATE)


def failure(
    stage: Stage, label: Label = Label.OVERLOADED, *, who: Candidate = A, hint: float | None = None, **then: object
) -> Failure:
    """An attempt that has just failed."""
    verdict = Verdict(label, "test", "because", Then(**then))  # type: ignore[arg-type]
    attempt = Attempt(1, who, ticket=stage.suspensions.ticket(), begun=stage.now)
    said = None if hint is None else Hint(hint, "retry-after")
    return Failure(attempt, verdict, action(verdict), said, None, stage.now)


@pytest.mark.parametrize(
    ("step", "jitter", "seconds"),
    [(0, 0.0, 3.0), (0, 0.1, 3.3), (1, 0.1, 6.6), (2, 0.1, 10.8), (9, 0.05, 11.4), (2, 0.0, 12.0)],
)
def test_l08_chance_makes_a_step_longer_and_the_last_one_shorter(step: int, jitter: float, seconds: float) -> None:
    """L08: never longer than the last step."""
    assert spread((3.0, 6.0, 12.0), step, jitter) == pytest.approx(seconds)
    assert spread((), step, jitter) == 0.0
    assert spread((10.0, 10.5), 0, 0.05) == 10.5, "as long as the last one is not too long"


@pytest.mark.parametrize(
    ("hint", "cap", "seconds"), [(20.0, 30.0, 20.0), (40.0, 30.0, 30.0), (0.0, 30.0, None), (30.0, 30.0, 30.0)]
)
def test_l03_a_stated_time_is_believed_up_to_its_cap(hint: float, cap: float, seconds: float | None) -> None:
    """L03: and climbs no ladder."""
    stage = Stage()
    told = failure(stage, hint=hint)
    held = impose(stage.suspensions, replace(told, default=replace(told.default, hint_cap=cap)), 0.0)
    assert (held.until - NOW if held is not None else None) == seconds
    assert KEY not in stage.suspensions.ladders


def test_f15_a_failure_inside_its_window_confirms_and_does_not_climb() -> None:
    """F15: what is imposed is what runs; the next one after it climbs. A short one is not counted."""
    stage = Stage()
    early, late = failure(stage), failure(stage)
    first = impose(stage.suspensions, early, 0.0)
    assert first is not None and (first.until, first.step) == (NOW + 3, 0)
    again = impose(stage.suspensions, late, 0.0)
    assert again == first
    assert stage.suspensions.ladders.standing(KEY) == {Label.OVERLOADED: Rung(0, first.order, NOW + 3)}
    stage.clock.now += 3
    second = impose(stage.suspensions, failure(stage), 0.0)
    assert second is not None and (second.until, second.step) == (stage.now + 6, 1)
    stage.clock.now += 6
    short = impose(stage.suspensions, failure(stage), 0.0, short=True)
    assert short is not None and (short.until, short.step) == (stage.now + 3, 0)
    assert stage.suspensions.ladders.standing(KEY)[Label.OVERLOADED].step == 1


@pytest.mark.parametrize(("at_most", "seconds", "counted"), [(5.0, 3.0, True), (3.0, 3.0, True), (2.0, 2.0, False)])
def test_j04_a_step_that_is_cut_is_not_counted(at_most: float, seconds: float, counted: bool) -> None:
    """J04."""
    stage = Stage()
    held = impose(stage.suspensions, failure(stage), 0.0, at_most=at_most)
    assert held is not None and held.until == NOW + seconds
    assert (KEY in stage.suspensions.ladders) is counted


def test_f16_what_began_before_it_was_cleared_suspends_nothing() -> None:
    stage = Stage()
    told = failure(stage)
    stage.suspend(A)
    stage.suspensions.resume(KEY)
    assert impose(stage.suspensions, told, 0.0) is None
    assert impose(stage.suspensions, failure(stage, Label.UNKNOWN), 0.0) is None, "what is about nobody neither"
    assert not stage.suspended()


def test_a_suspension_tells_everything_about_its_failure() -> None:
    stage = Stage()
    stage.suspensions.renew("a")
    held = impose(stage.suspensions, failure(stage, Label.QUOTA_EXHAUSTED, hint=60.0), 0.0)
    assert held is not None
    assert (held.key, held.since) == (key_of(A, Scope.CREDENTIAL), NOW)
    assert (held.label, held.rule) == (Label.QUOTA_EXHAUSTED, "test")
    assert (held.evidence, held.hint, held.candidate, held.generation) == ("because", "retry-after", "a m1", 1)


class Refreshable(Source):
    """A secret that can be fetched anew."""

    refreshable = True


@pytest.mark.parametrize(("hint", "patient"), [(3.0, True), (3.1, False), (0.0, True), (None, False)])
def test_l13_a_limit_that_is_over_in_a_moment_is_waited_out(hint: float | None, patient: bool) -> None:
    """L13: of a limit only, by the time that it names."""
    stage = Stage()
    found = repeat_of(failure(stage, Label.RATE_LIMITED, hint=hint), 3.0, Steady())
    assert found == (Repeat(hint, Reason.PATIENCE) if patient and hint is not None else None)
    busy = repeat_of(failure(stage, Label.OVERLOADED, hint=hint), 3.0, Steady())
    assert busy is not None and busy.reason is Reason.LUCK


def test_l06_a_secret_that_can_be_fetched_is_fetched_when_it_is_rejected() -> None:
    stage = Stage()
    fresh = replace(A, credential=replace(A.credential, secret=Refreshable()))
    rejected = Label.CREDENTIAL_REJECTED
    assert repeat_of(failure(stage, rejected, who=fresh), 3.0, Steady()) == Repeat(0.0, Reason.REFRESH)
    assert repeat_of(failure(stage, rejected), 3.0, Steady()) is None
    assert repeat_of(failure(stage, Label.QUOTA_EXHAUSTED, who=fresh), 3.0, Steady()) is None


@pytest.mark.parametrize(
    ("label", "retry_same", "again"),
    [
        (Label.OVERLOADED, None, True),
        (Label.OVERLOADED, 0, False),
        (Label.UNKNOWN, None, False),
        (Label.UNKNOWN, 1, True),
        (Label.UNKNOWN, 5, True),
    ],
)
def test_f13_a_rule_may_ask_for_a_repeat_or_do_without(label: Label, retry_same: int | None, again: bool) -> None:
    """F13: after a short pause by chance."""
    found = repeat_of(failure(Stage(), label, retry_same=retry_same), 3.0, Random(1))
    assert (found is not None) is again
    if found is not None:
        assert found.reason is Reason.LUCK
        assert REPEAT_AFTER[0] < found.seconds < REPEAT_AFTER[1]


def test_e03_what_refused_sealed_parts_is_asked_again_at_once() -> None:
    assert repeat_of(replace(failure(Stage()), unsealed=True), 0.0, Steady()) == Repeat(0.0, Reason.UNSEALED)


@pytest.mark.parametrize("kind", FaultKind)
def test_a08_what_a_fault_means(kind: FaultKind) -> None:
    """A08, L09: a connection that broke is tried once more, and at once; what was not reached may be this machine."""
    verdict = Verdict(Label.OVERLOADED, "builtin/fault")
    broken = fault(kind).fault
    default = action(verdict, broken)
    assert default.scope is FAULT_SCOPE[kind]
    assert default.repeat is (kind in (FaultKind.CLOSED, FaultKind.CUT))
    told = Failure(Attempt(1, A), verdict, default, None, broken, NOW)
    assert told.is_unreachable is (kind in (FaultKind.CONNECT, FaultKind.TLS))
    found = repeat_of(told, 3.0, Random(1))
    assert found == (Repeat(0.0, Reason.LUCK) if default.repeat else None)


def test_a_rule_changes_the_action_of_its_label_where_it_says_so() -> None:
    """The scope, the hope, and the time; the rest stays the label's."""
    plain = DEFAULTS[Label.RATE_LIMITED]
    assert action(Verdict(Label.RATE_LIMITED)) == plain
    then = Then(scope=Scope.UPSTREAM, hope=1, seconds=7.0)
    assert action(Verdict(Label.RATE_LIMITED, then=then)) == replace(plain, scope=Scope.UPSTREAM, hope=1, steps=(7.0,))
    assert action(Verdict(Label.RATE_LIMITED, then=Then(seconds=0.0))).steps == (0.0,)
    assert action(Verdict(Label.RATE_LIMITED, then=Then(hope=0))).hope == 0


def test_j04_of_one_credential_alone_a_refusal_is_out_in_full_at_once() -> None:
    """J04: no other credential could show that it is the request's fault."""
    stage = Stage()
    exchange, _ = stage.open(route(A, candidate("a", "m2")))
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    assert stage.suspended() == {KEY: 600.0}
    both = Stage()
    exchange, _ = both.open(route(A, B))
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), both.now)
    assert both.suspended() == {KEY: SHORT_STEP}


def test_j04_what_breaks_a_stream_that_was_released_is_not_the_requests_fault() -> None:
    """J04: nobody else is asked, so it is out for the whole step."""
    stage = Stage()
    stage.suspensions.ladders.climb(KEY, Label.RATE_LIMITED, Rung(5, 0, NOW))
    exchange, _ = stage.open(route(A, B))
    exchange.accept()
    exchange.failed_after_release(reply(Label.RATE_LIMITED, status=200), stage.now)
    assert stage.suspended() == {KEY: 64.0}


def test_j04_what_one_of_two_says_confirms_what_was_said_before() -> None:
    """J04, A05: a limit that names its time is its candidate's own, and the request was not the reason."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B, candidate("c")), streamed=True)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    assert stage.suspended() == {KEY: SHORT_STEP}
    assert exchange.hedge(B, stage.now) is not None
    assert exchange.judge(reply(Label.RATE_LIMITED, retry_after="20"), stage.now, B) == Continue()
    assert stage.suspended()[KEY] == 600.0
    assert exchange.outcomes[0].suspension == stage.suspensions.get(KEY)


def test_j04_what_runs_for_longer_is_what_a_refusal_comes_to() -> None:
    """F15: a longer suspension keeps its end, also in what is told of the attempt."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    stage.suspend(A, 5000)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    told = exchange.outcomes[0].suspension
    assert told is not None and told.until == NOW + 5000


def test_w01_only_the_end_of_what_was_made_short_is_not_waited_for() -> None:
    """W01, J04: another one that comes back in a moment is."""
    stage = Stage()
    stage.suspend(B, 10)
    exchange, _ = stage.open(route(A, B))
    assert exchange.judge(reply(Label.QUOTA_EXHAUSTED), stage.now) == Wait(10.0, "every candidate is suspended")
    alone = Stage()
    alone.suspend(B, 50)
    exchange, _ = alone.open(route(A, B, budget=Budget(wait=40)))
    assert isinstance(exchange.judge(reply(Label.QUOTA_EXHAUSTED), alone.now), Release), "A is out for longer"
