"""The decision machine: which candidate, what a reply means for it, what the tool gets at the end."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.support.decisions import NOW, OTHER, Scripted, Stage, candidate, fault, reply, route
from tests.suspensions.test_cache import Others
from understudy.failover.affinity import Spent
from understudy.failover.default_actions import DEFAULTS, action
from understudy.failover.exchange import Exchange
from understudy.failover.pacing import Pacing
from understudy.failover.penalties import REPEAT_AFTER
from understudy.failover.selection import Selector
from understudy.failover.steps import Attempt, Compared, Continue, Refuse, Release, Wait
from understudy.model.pool import Budget, Candidate, HoldUntil, Override, Strategy
from understudy.model.suspension import Key, key_of
from understudy.model.verdict import Label, Scope, Then, Verdict
from understudy.replies.reply import Fault, FaultKind, Reply
from understudy.rules import NO_ANSWER
from understudy.suspensions import Pace

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
M1, M2 = candidate("one", "m1"), candidate("one", "m2")
OK = reply(Label.OK)
REFUSAL = reply(Label.MODEL_UNSUPPORTED)
ONCE = Then(retry_same=0)
OVERLOADED = reply(Label.OVERLOADED, then=ONCE)
SHORT_STEP = 600.0
IN_DOUBT = 30.0
"""The short step where several credentials refuse one request alike (J04)."""


def key(of: Candidate, scope: Scope = Scope.CANDIDATE) -> Key:
    return key_of(of, scope)


# -- fallback and suspension -------------------------------------------------------------------------------------


def test_the_next_candidate_answers_and_is_asked_first_from_then_on() -> None:
    """F01: A refuses, B answers: the tool gets B's reply; the next request goes to B at once."""
    stage = Stage()
    on = route(A, B)
    played = stage.answer(on, [REFUSAL, OK])
    assert played.sent == [A, B]
    assert played.end == Release(2)
    assert stage.suspended() == {key(A): SHORT_STEP}
    assert stage.answer(on, [OK]).sent == [B]


@pytest.mark.parametrize("status", [400, 403, 404, 422])
@pytest.mark.parametrize("generating", [True, False])
def test_the_status_of_a_refusal_makes_no_difference(status: int, generating: bool) -> None:
    """F02: the same with 422, 404 and 403, for generate and token count."""
    stage = Stage()
    refusal = reply(Label.MODEL_UNSUPPORTED, status=status, names_model=True)
    played = stage.answer(route(A, B), [refusal, OK], generating=generating)
    assert played.sent == [A, B]
    assert stage.suspended() == {key(A): SHORT_STEP}


def test_a_sibling_that_answers_does_not_revive_the_model_that_refused() -> None:
    """F03: one credential, M1 refuses, M2 answers; then three more requests: M2, M2, M2."""
    stage = Stage()
    on = route(M1, M2)
    assert stage.answer(on, [REFUSAL, OK]).sent == [M1, M2]
    assert [stage.answer(on, [OK]).sent for _ in range(3)] == [[M2], [M2], [M2]]
    assert key(M1) in stage.suspended()


def test_candidates_that_are_skipped_cost_nothing() -> None:
    """F04: all members of the first credential suspended: the second answers with the whole budget left."""
    stage = Stage()
    second = [candidate("two", "m1"), candidate("two", "m2")]
    on = route(M1, M2, *second, budget=Budget(attempts=2))
    stage.suspend(M1)
    stage.suspend(M2)
    played = stage.answer(on, [REFUSAL, OK])
    assert played.sent == second
    assert [outcome.attempt.number for outcome in played.exchange.outcomes] == [1, 2]


def test_a_round_robin_goes_on_where_it_was() -> None:
    """F05: round_robin over [M1, M2, M3] with M2 suspended: M1, M3, M1, M3; token counts do not turn it."""
    stage = Stage()
    third = candidate("one", "m3")
    on = route(M1, M2, third, strategy=Strategy.ROUND_ROBIN)
    stage.suspend(M2)
    sent = []
    for _ in range(4):
        stage.answer(on, [OK], generating=False)
        sent += stage.answer(on, [OK]).sent
    assert sent == [M1, third, M1, third]


def test_another_alias_on_the_same_upstream_model_skips_it_too() -> None:
    """F06: suspended for alias x, skipped for alias y; another upstream model of that credential is not."""
    stage = Stage()
    x, y, z = route(M1, B, pattern="x"), route(M1, B, pattern="y"), route(M2, B, pattern="z")
    stage.answer(x, [REFUSAL, OK], "x")
    assert stage.answer(y, [OK], "y").sent == [B]
    assert stage.answer(z, [OK], "z").sent == [M2]


@pytest.mark.parametrize(
    ("label", "status"),
    [
        (Label.REQUEST_INVALID, 400),
        (Label.REQUEST_INVALID, 422),
        (Label.REQUEST_INVALID, 409),
        (Label.REQUEST_INVALID, 413),
        (Label.CONTENT_FILTERED, 400),
        (Label.UNKNOWN, 404),
        (Label.UNKNOWN, 500),
        (Label.UNKNOWN, 302),
    ],
)
def test_a_fault_of_the_request_costs_nobody_anything(label: Label, status: int) -> None:
    """F07: a bare 400, 422, 409, 413: one attempt, the upstream's reply as it is, nothing suspended."""
    stage = Stage()
    played = stage.answer(route(A, B), [reply(label, status=status)])
    assert played.sent == [A]
    assert played.end == Release(1)
    assert stage.suspended() == {}


@pytest.mark.parametrize("label", [Label.CAPABILITY_UNSUPPORTED, Label.CONTEXT_EXCEEDED])
def test_only_another_upstream_model_can_help_where_the_model_lacks_something(label: Label) -> None:
    """F10, L14: B with another upstream model is tried, nothing suspended; the same model there is not tried."""
    stage = Stage()
    same, other = candidate("b", "m1"), candidate("b", "m2")
    played = stage.answer(route(A, same, other), [reply(label), OK])
    assert played.sent == [A, other]
    assert stage.suspended() == {}


@pytest.mark.parametrize("label", [Label.CAPABILITY_UNSUPPORTED, Label.CONTEXT_EXCEEDED])
def test_the_same_model_at_another_upstream_is_another_one(label: Label) -> None:
    """F10: same name, other upstream: its limits may be others."""
    assert Stage().answer(route(A, C), [reply(label), OK]).sent == [A, C]


def test_nobody_can_do_it() -> None:
    """L14: all refuse: the first error reaches the tool, which is told not to come back."""
    stage = Stage()
    too_long = reply(Label.CONTEXT_EXCEEDED)
    played = stage.answer(route(A, candidate("b"), candidate("b", "m2")), [too_long, too_long])
    assert played.sent == [A, candidate("b", "m2")]
    assert played.end == Release(1, final=True, retry=False)


def test_every_candidate_refuses() -> None:
    """F12: the first refusal reaches the tool, each candidate is suspended for the short step only."""
    stage = Stage()
    played = stage.answer(route(A, B, C), [REFUSAL, REFUSAL, REFUSAL])
    assert played.end == Release(1, final=True, retry=False)
    assert stage.suspended() == {key(A): IN_DOUBT, key(B): IN_DOUBT, key(C): IN_DOUBT}


def test_a_refusal_that_is_gone_a_moment_later() -> None:
    """F13: with `retry_same: 1` the same candidate is asked again: the tool sees 200, nothing suspended."""
    stage = Stage()
    skew = reply(Label.MODEL_UNSUPPORTED, then=Then(retry_same=1))
    played = stage.answer(route(A, B), [skew, OK])
    assert played.sent == [A, A]
    assert played.released == 2
    assert stage.suspended() == {}


def test_a_rule_can_ask_for_one_repeat_only() -> None:
    """F13: law 2 is stronger than a rule's `retry_same: 5`; after the repeat the candidate is suspended."""
    stage = Stage()
    skew = reply(Label.MODEL_UNSUPPORTED, then=Then(retry_same=5))
    assert stage.answer(route(A, B), [skew, skew, OK]).sent == [A, A, B]
    assert stage.suspended() == {key(A): SHORT_STEP}


def test_a_rule_can_keep_a_reply_from_being_replayed_or_have_it_replayed() -> None:
    stage = Stage()
    assert stage.answer(route(A, B), [reply(Label.UNKNOWN, then=Then(replay=True)), OK]).sent == [A, B]
    assert stage.suspended() == {}
    assert stage.answer(route(A, B), [reply(Label.RATE_LIMITED, then=Then(replay=False))]).sent == [A]
    assert list(stage.suspended()) == [key(A)], "the next call need not find out as well"


# -- token counts ------------------------------------------------------------------------------------------------


def test_a_successful_count_resumes_nothing() -> None:
    """X01: an only candidate is counted on although it is suspended, and stays suspended."""
    stage = Stage()
    on = route(A)
    stage.suspend(A)
    stage.clock.now += 1
    assert stage.answer(on, [OK], generating=False).sent == [A]
    assert key(A) in stage.suspended()
    stage.clock.now += 1
    assert stage.answer(on, [OK]).sent == [A]
    assert stage.suspended() == {}


@pytest.mark.parametrize(
    "said",
    [
        reply(Label.UNKNOWN, status=404),
        OVERLOADED,
        reply(Label.RATE_LIMITED, retry_after="20"),
        reply(Label.CREDENTIAL_REJECTED),
        REFUSAL,
        fault(),
        fault(FaultKind.CLOSED),
    ],
    ids=lambda said: said.fault.kind if said.fault else said.verdict.label,
)
def test_nothing_but_a_named_refusal_suspends_from_a_count(said: object) -> None:
    """X02: a generic 404 or 500 on count suspends nothing, nor does anything else that does not name the model."""
    stage = Stage()
    exchange, step = stage.open(route(A, C), generating=False)
    assert step == Attempt(1, A)
    exchange.judge(said, stage.now)  # type: ignore[arg-type]
    assert stage.suspended() == {}


def test_a_named_refusal_of_a_count_suspends() -> None:
    """X03: an explicit model refusal on count suspends."""
    stage = Stage()
    named = reply(Label.MODEL_UNSUPPORTED, names_model=True)
    assert stage.answer(route(A, B), [named, OK], generating=False).sent == [A, B]
    assert stage.suspended() == {key(A): SHORT_STEP}


def test_a_count_goes_where_generate_would_go() -> None:
    """X04: the count goes to the candidate that generate would use."""
    stage = Stage()
    on = route(A, B, strategy=Strategy.ROUND_ROBIN)
    sent = [stage.answer(on, [OK], generating=generating).sent for generating in (False, True) * 3]
    assert sent == [[A], [A], [B], [B], [A], [A]]


# -- limits, quota, credentials, faults --------------------------------------------------------------------------


def test_a_limit_lasts_as_long_as_it_says() -> None:
    """L01: 429 with Retry-After: suspended that long, B answers at once."""
    stage = Stage()
    played = stage.answer(route(A, B), [reply(Label.RATE_LIMITED, retry_after="20"), OK])
    assert (played.sent, played.waits) == ([A, B], [])
    assert stage.suspended() == {key(A): 20.0}
    assert stage.suspensions.get(key(A)) == played.exchange.outcomes[0].suspension


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (reply(Label.RATE_LIMITED, retry_after="1555200"), 1800.0),
        (reply(Label.QUOTA_EXHAUSTED, retry_after="1555200"), 86400.0),
        (reply(Label.OVERLOADED, retry_after="600", then=ONCE), 30.0),
        (reply(Label.RATE_LIMITED, retry_after="-5"), 1.0),
        (reply(Label.RATE_LIMITED, retry_after="nan"), 1.0),
        (reply(Label.QUOTA_EXHAUSTED), 3600.0),
        (reply(Label.MODEL_UNSUPPORTED, retry_after="7"), 600.0),
        (reply(Label.CREDENTIAL_REJECTED, retry_after="7"), 1800.0),
        (reply(Label.RATE_LIMITED, then=Then(seconds=90)), 90.0),
        (reply(Label.RATE_LIMITED, then=Then(seconds=90), retry_after="20"), 20.0),
    ],
    ids=lambda each: f"{each:g}" if isinstance(each, float) else "",
)
def test_how_long_is_capped_and_nonsense_ignored(said: object, seconds: float) -> None:
    """L03: hints of 18 days, negative, NaN: capped or ignored; where hints do not count the label's time holds."""
    stage = Stage()
    stage.answer(route(A, C), [said, OK])  # type: ignore[list-item]
    assert list(stage.suspended().values()) == [seconds]


def test_a_quota_of_the_account_takes_all_its_models_out() -> None:
    """L04: every model of that credential is skipped, in this exchange and the next."""
    stage = Stage()
    on = route(M1, M2, B)
    assert stage.answer(on, [reply(Label.QUOTA_EXHAUSTED), OK]).sent == [M1, B]
    assert stage.answer(on, [OK]).sent == [B]
    assert stage.suspended() == {key(M1, Scope.CREDENTIAL): 3600.0}


def test_a_quota_of_one_model_leaves_its_siblings_free() -> None:
    """L05: siblings free."""
    stage = Stage()
    on = route(M1, M2, B)
    mine = reply(Label.QUOTA_EXHAUSTED, then=Then(scope=Scope.CANDIDATE))
    assert stage.answer(on, [mine, OK]).sent == [M1, M2]
    assert stage.suspended() == {key(M1): 3600.0}


def test_an_account_that_is_refused_takes_all_its_models_out() -> None:
    """L06, L07: 401 and 403 for the account: the next credential; 403 naming the model: the candidate only."""
    stage = Stage()
    on = route(M1, M2, B)
    assert stage.answer(on, [reply(Label.CREDENTIAL_REJECTED, status=403), OK]).sent == [M1, B]
    assert stage.suspended() == {key(M1, Scope.CREDENTIAL): 1800.0}
    other = Stage()
    assert other.answer(on, [reply(Label.MODEL_UNSUPPORTED, status=403), OK]).sent == [M1, M2]


def test_overloaded_is_asked_once_more_and_then_left() -> None:
    """L08: same once with jitter, then B; the repeat is within the jitter, and the next request skips A."""
    stage = Stage()
    on, busy = route(A, B), reply(Label.OVERLOADED)
    played = stage.answer(on, [busy, busy, OK])
    assert played.sent == [A, A, B]
    assert len(played.waits) == 1
    assert REPEAT_AFTER[0] <= played.waits[0] <= REPEAT_AFTER[1]
    assert [outcome.attempt.repeat for outcome in played.exchange.outcomes] == [False, True, False]
    assert stage.suspended() == {key(A): 3.0}
    assert stage.answer(on, [OK]).sent == [B]


def test_the_jitter_spreads() -> None:
    """L08: all that failed at the same instant do not come back at the same instant."""
    pauses = set()
    for seed in range(8):
        stage = Stage()
        exchange = stage.exchange(route(A, B), seed=seed)
        exchange.begin(stage.now)
        step = exchange.judge(reply(Label.OVERLOADED), stage.now)
        assert isinstance(step, Wait)
        pauses.add(step.seconds)
    assert len(pauses) == 8


def test_an_upstream_that_recovers_is_used_again_within_half_a_minute() -> None:
    """L08: the suspension of an overloaded candidate is short, whatever the reply says."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [reply(Label.OVERLOADED, then=ONCE, retry_after="86400"), OK])
    stage.clock.now += 30
    assert stage.answer(on, [OK]).sent == [A]


def test_a_repeat_does_not_go_to_a_candidate_that_another_exchange_saw_fail() -> None:
    """L08: of many exchanges that wait to try A once more the first to fail spares the others theirs."""
    stage = Stage()
    on, busy = route(A, B), reply(Label.OVERLOADED)
    (first, _), (second, _) = stage.open(on), stage.open(on)
    first.judge(busy, stage.now)
    second.judge(busy, stage.now)
    stage.clock.now += 1
    assert first.resume(stage.now) == Attempt(2, A, repeat=True)
    assert first.judge(busy, stage.now) == Attempt(3, B)
    assert second.resume(stage.now) == Attempt(2, B)


@pytest.mark.parametrize(
    ("kind", "scope"),
    [
        (FaultKind.CONNECT, Scope.UPSTREAM),
        (FaultKind.TLS, Scope.UPSTREAM),
        (FaultKind.SILENCE, Scope.CANDIDATE),
        (FaultKind.EMPTY, Scope.CANDIDATE),
    ],
)
def test_a_transport_fault_is_replayed(kind: FaultKind, scope: Scope) -> None:
    """L09, L10: connection refused, TLS failure, silence: B answers, what failed is out for seconds."""
    stage = Stage()
    on = route(A, B, C)
    elsewhere = C if scope is Scope.UPSTREAM else B
    assert stage.answer(on, [fault(kind), OK]).sent == [A, elsewhere]
    assert stage.suspended() == {key(A, scope): 3.0}


@pytest.mark.parametrize("kind", [FaultKind.CLOSED, FaultKind.CUT])
def test_a08_a_reset_is_asked_once_more_at_once_and_is_no_outage(kind: FaultKind) -> None:
    """A08, L09: the same candidate on a new connection at once; then the other credential at that upstream."""
    stage = Stage()
    once = stage.answer(route(A, B, C), [fault(kind), OK])
    assert (once.sent, once.waits) == ([A, A], [0.0])
    assert stage.suspended() == {}
    twice = stage.answer(route(A, B, C), [fault(kind), fault(kind), OK])
    assert (twice.sent, twice.waits) == ([A, A, B], [0.0])
    assert stage.suspended() == {key(A): 3.0}, "the upstream is not out"


def test_a08_a_single_candidate_is_retried_once() -> None:
    """A08: the tool sees 200; without it, what came back the second time takes the upstream out."""
    stage = Stage()
    played = stage.answer(route(A), [fault(FaultKind.CLOSED), OK])
    assert (played.sent, played.waits, played.released) == ([A, A], [0.0], 2)
    assert stage.suspended() == {}
    assert stage.answer(route(A), [fault(FaultKind.CLOSED)] * 2).refused.status == 503
    assert stage.suspended() == {key(A, Scope.UPSTREAM): 3.0}


def test_a08_the_upstream_is_out_on_repeated_evidence() -> None:
    """A08: the connections of two credentials break one after the other: that upstream is left for another."""
    stage = Stage()
    played = stage.answer(route(A, B, C), [fault(FaultKind.CLOSED)] * 3 + [OK])
    assert played.sent == [A, A, B, C]
    assert stage.suspended() == {key(A): 3.0, key(B, Scope.UPSTREAM): 3.0}


@pytest.mark.parametrize("between", ["ten seconds", "an answer", "nothing, they began together"])
def test_a08_what_is_no_repeated_evidence(between: str) -> None:
    """A08: what broke long ago, before an answer, or at the same instant is one event."""
    stage = Stage()
    first, _ = stage.open(route(A, C))
    second, _ = stage.open(route(B, C)) if between.startswith("nothing") else (None, None)
    stage.clock.now += 0.001
    first.judge(fault(FaultKind.CLOSED), stage.now)
    if between == "ten seconds":
        stage.clock.now += 10.5
    elif between == "an answer":
        stage.answer(route(B), [OK])
    if second is None:
        second, _ = stage.open(route(B, C))
    assert isinstance(second.judge(fault(FaultKind.CLOSED), stage.now), Wait)
    # Twice the same credential, where another one is left there to be asked.
    assert key(B, Scope.UPSTREAM) not in stage.suspended()


def test_a07_a_repeat_does_not_take_the_place_of_a_candidate() -> None:
    """A07, law 2: three candidates, the first two flaky: the third is asked within any budget that has room for it."""
    for attempts in range(3, 8):
        stage = Stage()
        on = route(A, B, C, budget=Budget(attempts=attempts))
        exchange, step = stage.open(on)
        sent = []
        while isinstance(step, Attempt | Wait):
            if isinstance(step, Wait):
                stage.clock.now += step.seconds
                step = exchange.resume(stage.now)
                continue
            sent.append(step.candidate)
            flaky = fault(FaultKind.CLOSED) if step.candidate == A else reply(Label.OVERLOADED, status=200)
            step = exchange.judge(OK if step.candidate == C else flaky, stage.now)
        assert isinstance(step, Release)
        assert exchange.outcomes[step.attempt - 1].attempt.candidate == C
        assert sent == {3: [A, B, C], 4: [A, A, B, C]}.get(attempts, [A, A, B, B, C])
    assert Budget().attempts == 6


def test_a_kept_alive_connection_that_was_closed_is_no_fault_of_anybody() -> None:
    """L09: an idle connection that had served before: the same candidate at once, nobody suspended."""
    stage = Stage()
    played = stage.answer(route(A, B), [fault(FaultKind.CLOSED, reused=True), OK])
    assert (played.sent, played.waits) == ([A, A], [0.0])
    assert stage.suspended() == {}


def test_the_owner_can_rule_out_replays_after_the_request_was_sent() -> None:
    """L09: with `replay_after_sent: false` a fault after sending is answered; one before it is replayed."""
    stage = Stage()
    exchange = stage.exchange(route(A, C), replay_after_sent=False)
    exchange.begin(stage.now)
    answer = exchange.judge(fault(FaultKind.CLOSED, sent=True), stage.now)
    assert isinstance(answer, Refuse)
    assert answer.status == 503
    assert list(stage.suspended()) == [key(A)], "the next call goes elsewhere"
    stage = Stage()
    again = stage.exchange(route(A, C), replay_after_sent=False)
    again.begin(stage.now)
    assert again.judge(fault(FaultKind.CONNECT, sent=False), stage.now) == Attempt(2, C)
    idle = stage.exchange(route(B), replay_after_sent=False)
    idle.begin(stage.now)
    before = stage.suspended()
    idle.judge(fault(FaultKind.CLOSED, sent=True, reused=True), stage.now)
    assert stage.suspended() == before


def test_only_a_streamed_request_with_somewhere_else_to_go_is_cut_for_silence() -> None:
    """L10: without hedging: a plain request is never cut, nor is the last candidate; the limit shrinks."""
    stage = Stage()

    def limit(*members: Candidate, streamed: bool = True, later: float = 0) -> float:
        exchange = stage.exchange(route(*members, budget=Budget(hedge_after=0)), streamed=streamed)
        exchange.begin(stage.now)
        assert exchange.ask_at(members[0], stage.now) == math.inf
        return exchange.end_at(members[0], stage.now + later, stage.now + later) - (stage.now + later)

    assert limit(A, B) == 45.0
    assert limit(A, B, later=40) == 15.0
    assert limit(A, B, streamed=False) == math.inf
    assert limit(A) == math.inf
    assert limit(A, B, later=55) == math.inf  # nothing could begin any more
    stage.suspend(B)
    assert limit(A, B) == math.inf


def test_the_first_output_is_waited_for_from_the_sending_and_within_the_deadline() -> None:
    """`first_output`: the limit counts from the sending, once, and no longer than anything could be replayed."""
    stage = Stage()

    def left(*members: Candidate, seconds: float = 55, later: float = 0, first_output: float = 5) -> float:
        exchange = stage.exchange(route(*members, budget=Budget(seconds=seconds, first_output=first_output)))
        exchange.begin(stage.now)
        return exchange.first_output_limit(stage.now + later, stage.now)

    assert left(A, B) == 5.0
    assert left(A, B, later=3.5) == 1.5
    assert left(A, B, later=3.5, seconds=6) == 1.5
    assert left(A, B, later=3.5, seconds=4) == 0.5
    assert left(A, B, later=7) == 0.0
    assert left(A, B, first_output=0) == math.inf
    assert left(A) == math.inf


def test_a_short_limit_is_waited_out_and_a_longer_one_is_not() -> None:
    """L13: a hint of 2 s with patience 3: the same candidate after 2 s, once; a hint of 5 s: B at once."""
    stage = Stage()
    on, short = route(A, B), reply(Label.RATE_LIMITED, retry_after="2")
    played = stage.answer(on, [short, OK])
    assert (played.sent, played.waits) == ([A, A], [2.0])
    assert stage.suspended() == {}
    played = stage.answer(on, [short, short, OK])
    assert (played.sent, played.waits) == ([A, A, B], [2.0])
    assert stage.suspended() == {key(A): 2.0}
    stage.clock.now += 2
    played = stage.answer(on, [reply(Label.RATE_LIMITED, retry_after="5"), OK])
    assert (played.sent, played.waits) == ([A, B], [])


def test_patience_and_the_overloaded_repeat_share_the_one_repeat() -> None:
    """L13: law 2: a candidate is sent at most twice, whatever the reasons."""
    stage = Stage()
    said = [reply(Label.RATE_LIMITED, retry_after="1"), reply(Label.OVERLOADED), OK]
    assert stage.answer(route(A, B), said).sent == [A, A, B]


def test_a_tool_that_goes_away_teaches_nothing() -> None:
    """L12: cancelled during an attempt or a wait: nothing suspended, nothing resumed, nothing sent after it."""
    stage = Stage()
    stage.suspend(B, 100)
    exchange, _ = stage.open(route(A, B))
    exchange.cancelled()
    waiting, _ = stage.open(route(A, B))
    assert isinstance(waiting.judge(reply(Label.OVERLOADED), stage.now), Wait)
    waiting.cancelled()
    for over in (exchange, waiting):
        over.succeeded()
        assert_over(over, stage.now)
    assert stage.suspended() == {key(B): 100.0}


# -- waiting, budget, nothing left -------------------------------------------------------------------------------


def test_all_are_cooling_and_the_first_comes_back_soon() -> None:
    """W01: earliest in 2 s, wait 30: one wait, then success."""
    stage = Stage()
    stage.suspend(A, 20)
    stage.suspend(B, 2)
    played = stage.answer(route(A, B), [OK])
    assert (played.sent, played.waits) == ([B], [2.0])


def test_no_wait_is_longer_than_the_route_allows() -> None:
    """W02: earliest beyond `wait`: answered at once."""
    stage = Stage()
    stage.suspend(A, 31)
    stage.suspend(B, 40)
    played = stage.answer(route(A, B), [])
    assert (played.sent, played.waits) == ([], [])
    assert (played.refused.status, played.refused.retry_after) == (503, 31)


def test_waits_in_a_row_are_together_no_longer_than_the_route_allows() -> None:
    """W02: a candidate that is suspended anew during the wait does not start another 30 s."""
    stage = Stage()
    stage.suspend(A, 20)
    exchange, step = stage.open(route(A, B, budget=Budget(wait=30, seconds=300)))
    assert step == Attempt(1, B)
    exchange.cancelled()
    stage.suspend(B, 20)
    exchange, step = stage.open(route(A, B, budget=Budget(wait=30, seconds=300)))
    assert step == Wait(20.0, "every candidate is suspended")
    stage.clock.now += 19
    stage.suspend(A, 10)
    stage.suspend(B, 10)
    stage.clock.now += 1
    assert exchange.resume(stage.now) == Wait(9.0, "every candidate is suspended")
    stage.suspend(A, 15)
    stage.suspend(B, 15)
    stage.clock.now += 9
    refused = exchange.resume(stage.now)
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.retry_after) == (503, 6)


def test_a_pool_that_is_replaced_during_the_wait_does_not_make_it_endless() -> None:
    """W01, O01: the exchange sees its own candidate come back, and a wait always has a length."""
    stage = Stage()
    stage.suspend(A, 2)
    stage.suspend(B, 9)
    exchange, step = stage.open(route(A, B))
    stage.selector = Selector(stage.suspensions)
    assert isinstance(step, Wait)
    stage.clock.now += step.seconds
    assert exchange.resume(stage.now) == Attempt(1, A)


def test_a_lineup_that_lags_behind_cannot_spin() -> None:
    """Law 10: should a lineup ever miss a change, the answer is a refusal and not a wait of no length for ever."""
    stage = Stage()
    on = route(A, B)
    stage.lineup(on).mark(key(A, Scope.UPSTREAM), True)  # nobody suspended it, nobody will bring it back
    _, step = stage.open(on)
    assert isinstance(step, Refuse)


def test_the_budget_of_attempts_counts_every_sending() -> None:
    """W04: attempts hold across candidates, waits and repeats together."""
    stage = Stage()
    busy = reply(Label.OVERLOADED)
    played = stage.answer(route(A, B, budget=Budget(attempts=3)), [busy, busy, busy])
    assert played.sent == [A, A, B]
    assert played.end == Release(1, final=True, retry=True)
    assert stage.suspended() == {key(A): pytest.approx(3.0), key(B): 3.0}


def test_what_could_not_be_built_was_never_sent_and_costs_no_budget() -> None:
    """W04: law 5: no attempt, no budget."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B, C, budget=Budget(attempts=1)))
    assert exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "gone", stage.now) == Attempt(2, B)
    assert exchange.unsendable(Label.REQUEST_INVALID, "builtin/rewrite", "no model", stage.now) == Attempt(3, C)
    assert exchange.judge(OK, stage.now) == Release(3)
    assert stage.suspended() == {}


def test_a_secret_that_is_missing_is_missing_for_all_models() -> None:
    stage = Stage()
    exchange, _ = stage.open(route(M1, M2, B))
    assert exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "gone", stage.now) == Attempt(2, B)


def test_the_most_hopeful_real_reply_reaches_the_tool() -> None:
    """W05: one that a later retry can cure beats a permanent one, whatever came first."""
    stage = Stage()
    said = [REFUSAL, reply(Label.RATE_LIMITED, retry_after="20"), reply(Label.CREDENTIAL_REJECTED)]
    played = stage.answer(route(A, B, C, budget=Budget(wait=0)), said)
    assert played.end == Release(2, final=True, retry=True)


def test_the_tool_is_told_when_another_round_cannot_help() -> None:
    """W05: everybody is out for longer than a minute."""
    stage = Stage()
    said = [reply(Label.RATE_LIMITED, retry_after="61"), REFUSAL]
    assert stage.answer(route(A, B), said).end == Release(1, final=True, retry=False)


def test_an_only_candidate_speaks_for_itself() -> None:
    """W06: its own error passes through unchanged; it is sent although it is suspended."""
    stage = Stage()
    on = route(A)
    for _ in range(3):
        played = stage.answer(on, [REFUSAL])
        assert played.sent == [A]
        assert played.end == Release(1, final=False, retry=False)
    assert stage.suspended() == {key(A): SHORT_STEP}


def test_an_only_candidate_is_kept_out_of_a_stated_window() -> None:
    """W06: a stated limit is kept to: it is waited for, or answered with its true time."""
    stage = Stage()
    on = route(A)
    stage.answer(on, [reply(Label.RATE_LIMITED, retry_after="40")])
    refused = stage.answer(on, []).refused
    assert (refused.status, refused.retry_after) == (429, 40)
    stage.clock.now += 30
    played = stage.answer(on, [OK])
    assert (played.sent, played.waits) == ([A], [10.0])


def test_a_longer_suspension_of_another_kind_does_not_hide_a_stated_window() -> None:
    """W06: both run: the stated window keeps the only candidate out, the other one is only shown."""
    stage = Stage()
    on = route(A)
    stage.suspend(A, 600)
    stage.suspend(A, 10, scope=Scope.CREDENTIAL, label=Label.RATE_LIMITED, hint="retry-after")
    played = stage.answer(on, [OK])
    assert (played.sent, played.waits) == ([A], [10.0])


@pytest.mark.parametrize("label", [Label.CREDENTIAL_REJECTED, Label.UNKNOWN])
@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_pool_credential_is_not_the_tools_business(label: Label, status: int) -> None:
    """W07: a 401 or 403 against a pool credential never reaches the tool as such, not even of an only candidate."""
    refused = Stage().answer(route(A), [reply(label, status=status)]).refused
    assert (refused.status, refused.retry_after) == (400, None)


def test_a_rejected_credential_does_not_displace_a_real_reply() -> None:
    """W07: B's 403 stops the search; what the tool gets is A's reply."""
    played = Stage().answer(route(A, B), [REFUSAL, reply(Label.UNKNOWN, status=403)])
    assert played.end == Release(1, final=True, retry=False)


def test_a_403_about_the_model_is_a_real_reply() -> None:
    """W07: it says nothing about anybody's login."""
    assert Stage().answer(route(A), [reply(Label.MODEL_UNSUPPORTED, status=403)]).released == 1


def test_nothing_begins_after_the_budget_of_seconds() -> None:
    """W08: no attempt and no wait begins after `seconds`; the reply under way is still judged."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    stage.clock.now += 55
    assert exchange.judge(REFUSAL, stage.now) == Release(1, final=True, retry=True)
    late, _ = stage.open(route(B, C))
    stage.clock.now += 1000
    assert late.judge(OK, stage.now) == Release(1)


def test_a_wait_that_lasted_too_long_is_followed_by_nothing() -> None:
    """W08: the alarm rang late: neither a first attempt nor a repeat begins after the deadline."""
    stage = Stage()
    stage.suspend(A, 2)
    stage.suspend(B, 3)
    waiting, step = stage.open(route(A, B))
    assert isinstance(step, Wait)
    repeating, _ = stage.open(route(C))
    assert isinstance(repeating.judge(reply(Label.OVERLOADED), stage.now), Wait)
    stage.clock.now += 55
    refused = waiting.resume(stage.now)
    assert isinstance(refused, Refuse)
    assert (refused.status, refused.retry_after) == (503, 1)
    assert repeating.resume(stage.now) == Release(1)


def test_no_wait_ends_after_the_budget_of_seconds() -> None:
    """W08: a wait that would outlast the deadline does not begin."""
    stage = Stage()
    stage.suspend(A, 10)
    stage.suspend(B, 20)
    budget = Budget(seconds=10)
    assert stage.answer(route(A, B, budget=budget), []).refused.status == 503
    limit = reply(Label.RATE_LIMITED, retry_after="2")
    exchange, _ = stage.open(route(C, budget=budget))
    assert exchange.judge(limit, NOW + 8.5) == Release(1)


@pytest.mark.parametrize("seconds", [1, 60, 61, 86400])
def test_our_own_status_invites_a_retry_only_where_it_can_help(seconds: float) -> None:
    """W09: 429 or 503 only when a retry within 60 s can help, else 400."""
    stage = Stage()
    stage.suspend(A, seconds, label=Label.QUOTA_EXHAUSTED, hint="resets_at")
    refused = stage.answer(route(A, budget=Budget(wait=0)), []).refused
    assert refused.status == (429 if seconds <= 60 else 400)


def test_an_upstream_that_may_not_be_used_is_not_used() -> None:
    stage = Stage()
    exchange = stage.exchange(route(A, C, B), blocked={"openai": "no verified TLS"})
    assert exchange.begin(stage.now) == Attempt(1, C)
    assert not exchange.has_another(stage.now)
    only = stage.exchange(route(A), blocked={"openai": "no verified TLS"})
    assert isinstance(only.begin(stage.now), Refuse)


# -- after the release -------------------------------------------------------------------------------------------


def test_a_success_resumes_exactly_its_own_candidate() -> None:
    """F03: law 4: neither a sibling, nor its credential, nor its upstream."""
    stage = Stage()
    exchange, _ = stage.open(route(M1))
    exchange.cancelled()
    for what, scope in ((M2, Scope.CANDIDATE), (M1, Scope.CREDENTIAL), (M1, Scope.UPSTREAM), (M1, Scope.CANDIDATE)):
        stage.suspend(what, scope=scope)
    stage.clock.now += 1
    stage.answer(route(M1), [OK])
    assert set(stage.suspended()) == {key(M2), key(M1, Scope.CREDENTIAL), key(M1, Scope.UPSTREAM)}


def test_a_success_does_not_undo_a_newer_refusal() -> None:
    """F16: the attempt began before the refusal."""
    stage = Stage()
    exchange, _ = stage.open(route(A))
    stage.clock.now += 1
    stage.suspend(A)
    exchange.accept()
    exchange.succeeded()
    assert key(A) in stage.suspended()


def test_an_error_that_is_released_in_the_end_proves_no_success() -> None:
    """F11: a 200 with an error inside is complete, too, and resumes nobody."""
    stage = Stage()
    stage.suspend(A)
    stage.clock.now += 10
    for label in (Label.CAPABILITY_UNSUPPORTED, Label.UNKNOWN, Label.OVERLOADED):
        assert stage.answer(route(A), [reply(label, status=200, then=ONCE)]).released == 1
    assert stage.suspended() == {key(A): 590.0}
    impatient = Budget(wait=0)
    other = stage.answer(route(B, C, budget=impatient), [reply(Label.OVERLOADED, status=200, then=ONCE), REFUSAL])
    assert other.released == 1
    assert set(stage.suspended()) == {key(A), key(B), key(C)}


def test_a_stream_that_dies_after_release_costs_its_candidate() -> None:
    """S03, S04: nothing is replayed, the candidate is remembered as overloaded."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    exchange.accept()
    outcome = exchange.failed_after_release(fault(FaultKind.CUT), stage.now)
    assert outcome is not None
    assert outcome.suspension is not None
    assert stage.suspended() == {key(A): 3.0}
    assert_over(exchange, stage.now)


def test_an_error_at_the_end_of_a_stream_that_is_about_the_request_costs_nobody() -> None:
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    exchange.accept()
    assert exchange.failed_after_release(reply(Label.CONTENT_FILTERED, status=200), stage.now) is None
    assert stage.suspended() == {}


def test_an_error_that_was_judged_before_its_release_is_not_judged_again() -> None:
    """S02: A's error is released as the most hopeful one; that it stands at the end of the stream is not B's fault."""
    stage = Stage()
    died = reply(Label.OVERLOADED, status=200, then=ONCE)
    played = stage.answer(route(A, B, budget=Budget(wait=0)), [died, REFUSAL])
    assert played.released == 1
    before = stage.suspended()
    assert played.exchange.failed_after_release(died, stage.now) is None
    assert stage.suspended() == before == {key(A): 3.0, key(B): SHORT_STEP}


def test_another_understudys_answer_is_nobodys_failure() -> None:
    """Point 5 of the policy: its candidates are out, not ours: the next is asked, and nothing is suspended."""
    stage = Stage()
    said = Reply(
        503, headers=(("X-Understudy", "answer"), ("Retry-After", "9")), body=b'{"error": {"message": "busy"}}'
    )
    played = stage.answer(route(A, B), [said, OK])
    assert played.sent == [A, B]
    assert played.exchange.outcomes[0].verdict.rule == "builtin/understudy"
    assert stage.suspended() == {}
    assert stage.answer(route(A, B), [said, said]).released == 1
    assert stage.suspended() == {}


@pytest.mark.parametrize(
    ("status", "retry_after", "retry"),
    [
        *[(503, "5", True), (429, "60", True), (503, "0", True)],
        *[(503, "61", False), (429, "", False), (503, "-1", False), (503, "9" * 5000, False), (400, "5", False)],
    ],
)
def test_another_understudy_may_ask_for_another_round(status: int, retry_after: str, retry: bool) -> None:
    """Law 6: its 429 or 503 that names a time within a minute can be cured by a later try; nobody is suspended."""
    stage = Stage()
    headers = (("X-Understudy", "answer"), *([("Retry-After", retry_after)] if retry_after else []))
    said = Reply(status, headers=headers, body=b'{"error": {"message": "busy"}}')
    assert stage.answer(route(A, B), [said, said]).end == Release(1, final=True, retry=retry)
    assert stage.suspended() == {}
    assert stage.answer(route(A, B), [REFUSAL, said]).released == (2 if retry else 1)


# -- illegal moves -----------------------------------------------------------------------------------------------


def assert_over(exchange: Exchange, now: float) -> None:
    """Nothing can be sent any more; trying raises and changes nothing."""
    before = (list(exchange.outcomes), exchange.attempt)
    moves: list[Callable[[], object]] = [
        lambda: exchange.begin(now),
        lambda: exchange.resume(now),
        lambda: exchange.judge(OK, now),
        lambda: exchange.unsendable(Label.UNKNOWN, "x", "y", now),
        exchange.accept,
    ]
    for move in moves:
        with pytest.raises(RuntimeError):
            move()
    assert (exchange.outcomes, exchange.attempt) == before


def test_nothing_is_replayed_after_release() -> None:
    """Law 1: after a release or an answer of our own every further move is an error and changes nothing."""
    stage = Stage()
    assert_over(stage.answer(route(A), [OK]).exchange, stage.now)
    assert_over(stage.answer(route(A, B), [REFUSAL, REFUSAL]).exchange, stage.now)
    assert_over(stage.answer(route(A), [reply(Label.CREDENTIAL_REJECTED)]).exchange, stage.now)
    accepted, _ = stage.open(route(C))
    accepted.accept()
    assert_over(accepted, stage.now)


def test_nothing_moves_before_it_began() -> None:
    stage = Stage()
    exchange = stage.exchange(route(A))
    for move in (lambda: exchange.judge(OK, stage.now), lambda: exchange.resume(stage.now), exchange.accept):
        with pytest.raises(RuntimeError):
            move()
    assert exchange.failed_after_release(fault(), stage.now) is None
    assert not exchange.has_another(stage.now)
    assert exchange.begin(stage.now) == Attempt(1, A)
    with pytest.raises(RuntimeError):
        exchange.begin(stage.now)


def test_an_exchange_tells_what_was_tried() -> None:
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    assert repr(exchange) == "Exchange(gpt-5 over gpt-5: nothing tried)"
    exchange.judge(REFUSAL, stage.now)
    assert repr(exchange) == "Exchange(gpt-5 over gpt-5: a m1: model_unsupported)"


@pytest.mark.parametrize("ahead", [0.0, 3600.0, -3600.0])
def test_l01_a_date_is_read_by_the_wall_clock(ahead: float) -> None:
    """L01, H06: a Retry-After as a date means wall time, which may be ahead of the clock of durations."""
    stage = Stage()
    date = email.utils.formatdate(stage.now + ahead + 40, usegmt=True)
    limited = reply(Label.RATE_LIMITED, retry_after=date)
    assert stage.answer(route(A, B), [limited, reply(Label.OK)], ahead=ahead).sent == [A, B]
    assert stage.suspended() == {key_of(A, Scope.CANDIDATE): pytest.approx(40, abs=1)}


def test_an_exchange_is_under_way_until_it_has_an_answer() -> None:
    """While an attempt or a wait goes on, and neither before nor after."""
    stage = Stage()
    exchange = stage.exchange(route(A, budget=Budget(patience=0)))
    assert not exchange.is_under_way
    exchange.begin(stage.now)
    assert exchange.is_under_way
    assert isinstance(exchange.judge(reply(Label.OK), stage.now), Release)
    assert not exchange.is_under_way
    stage.suspend(A, 2.0, label=Label.RATE_LIMITED)
    stage.suspend(B, 2.0, label=Label.RATE_LIMITED)
    waiting = stage.exchange(route(A, B, pattern="other"), "other")
    assert isinstance(waiting.begin(stage.now), Wait)
    assert waiting.is_under_way


@pytest.mark.parametrize(
    ("kind", "hope"), [(FaultKind.SILENCE, 0), (FaultKind.CLOSED, None), (FaultKind.CONNECT, None)]
)
def test_silence_is_the_least_hopeful_fault(kind: FaultKind, hope: int | None) -> None:
    """W05: the tool rather gets what may be cured by another round; whoever was silent is not waited for again."""
    verdict = Verdict(Label.OVERLOADED, "builtin/fault", "x")
    plain = DEFAULTS[Label.OVERLOADED].hope
    assert plain > 0
    assert action(verdict, Fault(kind, "x", sent=True)).hope == (plain if hope is None else hope)


# -- what is told while it goes on, and at its edges ----------------------------------------------------------------


def test_s05_what_was_held_until_its_end_and_cut_is_not_paid_for_twice() -> None:
    """`hold: complete`: most of an answer was made already, so the next candidate is asked and not the same again."""
    on = replace(route(A, B), hold=HoldUntil.COMPLETE)
    assert Stage().answer(on, [fault(FaultKind.CUT), OK]).sent == [A, B]
    assert Stage().answer(on, [fault(FaultKind.CLOSED), OK]).sent == [A, A]
    assert Stage().answer(route(A, B), [fault(FaultKind.CUT), OK]).sent == [A, A]


def test_w04_what_a_wait_has_used_up_so_far() -> None:
    """W04: a wait for anybody counts, for as long as it has lasted; one for the same candidate is its own doing."""
    stage = Stage()
    patient, _ = stage.open(route(A, B))
    assert isinstance(patient.judge(reply(Label.RATE_LIMITED, retry_after="2"), stage.now), Wait)
    assert patient.spent_at(stage.now + 1) == Spent(1, 0.0)
    for each in (A, B):
        stage.suspend(each, 20)
    waiting, step = stage.open(route(A, B), spent=Spent(2, 1.5))
    assert isinstance(step, Wait)
    assert waiting.spent_at(stage.now + 5) == Spent(2, 6.5)
    assert waiting.spent_at(stage.now - 5) == Spent(2, 1.5), "a clock that was set back gives nothing back"
    stage.clock.now += 20
    waiting.resume(stage.now)
    assert waiting.spent == waiting.spent_at(stage.now + 5) == Spent(3, 21.5)


def test_whom_a_call_would_ask_takes_no_turn() -> None:
    """Whoever serves the session, if it can be asked; else the next one of the route."""
    stage = Stage()
    on = route(A, B, C, strategy=Strategy.ROUND_ROBIN)
    assert [stage.exchange(on).first_choice() for _ in range(3)] == [A, A, A]
    assert stage.answer(on, [OK], session="s").sent == [A]
    assert stage.exchange(on, session="s").first_choice() == A
    assert stage.exchange(on).first_choice() == B
    assert stage.exchange(on, session="s", blocked={"openai": "no"}).first_choice() == C
    stage.suspend(A)
    assert stage.exchange(on, session="s").first_choice() == B
    assert stage.exchange(on, blocked={"openai": "no", "other": "no"}).first_choice() is None


def test_w02_a_wait_is_counted_once_whatever_the_clock_does() -> None:
    """W02, law 10: and never less than nothing."""
    for seconds, waited in ((20.0, 20.0), (-5.0, 0.0)):
        stage = Stage()
        for each in (A, B):
            stage.suspend(each, 20)
        exchange, _ = stage.open(route(A, B))
        stage.clock.now += seconds
        for each in (A, B):
            stage.suspensions.resume(key(each))
        assert exchange.resume(stage.now) == Attempt(1, A)
        assert exchange.waited == waited


def test_w02_a_patient_wait_is_not_counted_as_one() -> None:
    """L13: it is bounded by itself."""
    stage = Stage()
    played = stage.answer(route(A, B), [reply(Label.RATE_LIMITED, retry_after="2"), OK])
    assert (played.waits, played.exchange.waited) == ([2.0], 0.0)


def test_m03_a_call_that_generates_asks_the_others_for_what_it_could_probe() -> None:
    """M03: of its own lineup; a token count probes nothing."""
    stage = Stage()
    others = Others(grants=False)
    stage.suspensions.peers = others
    for each in (A, C):
        stage.suspend(each, 5)
    stage.clock.now += 5
    stage.suspensions.expire()
    for generating, wanted in ((False, []), (True, [("wants", key(A))])):
        del others.told[:]
        stage.exchange(route(A, B), generating=generating).begin(stage.now)
        assert others.told == wanted


def test_m03_what_another_process_may_be_probing_is_asked_where_a_call_cannot_wait() -> None:
    """M03: with nobody else to ask; a token count is refused, and what is suspended as well stays out."""
    for generating in (True, False):
        stage = Stage()
        stage.suspensions.peers = Others(grants=False)
        for each in (A, B):
            stage.suspend(each, 5)
        stage.suspend(A, 50, scope=Scope.CREDENTIAL)
        stage.clock.now += 5
        _, step = stage.open(route(A, B, budget=Budget(wait=0)), generating=generating)
        assert step == Attempt(1, B) if generating else isinstance(step, Refuse)


def test_a_reply_that_is_withdrawn_is_none() -> None:
    """It was cancelled in the middle of its output: the next best is released."""
    stage = Stage()
    limited = reply(Label.RATE_LIMITED, retry_after="61")
    exchange, _ = stage.open(route(A, B, C))
    exchange.judge(REFUSAL, stage.now)
    exchange.judge(limited, stage.now)
    assert exchange.best == 2
    exchange.withdraw(2)
    assert exchange.best == 1
    assert [outcome.attempt.candidate for outcome in exchange.outcomes] == [A, B]
    exchange.withdraw(1)
    assert exchange.best == 0


def test_an_exchange_that_was_released_says_so() -> None:
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    assert (exchange.is_released, exchange.ticket > 0) == (False, True)
    exchange.accept()
    assert exchange.is_released
    assert (exchange.outcomes[0].status, exchange.outcomes[0].verdict.label) == (200, Label.OK)
    assert stage.exchange(route(A)).ticket == 0


def test_a_count_that_is_accepted_proves_and_teaches_nothing() -> None:
    """Law 4: no time of a first event, no seat, no answer of its model, and nothing is resumed."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B), generating=False, session="s")
    exchange.spoke(A, 1.0)
    exchange.accept()
    stage.suspend(A, 60)
    exchange.succeeded()
    assert key(A) in stage.suspended()
    assert stage.suspensions.first_events.pace((key(A), False)) is None
    assert not stage.suspensions.answers.answered_since(("a", 0), 0.0)
    call, _ = stage.open(route(B), streamed=True)
    call.spoke(B, 1.0)
    call.accept()
    assert stage.suspensions.first_events.pace((key(B), True)) == Pace(1.0, 1.0, 1)
    assert stage.suspensions.answers.answered_since(("b", 0), stage.now)


def test_a_rule_and_its_route_have_their_say_together() -> None:
    """What the route says about a label goes before what the rule says; what it leaves open stays the rule's."""
    on = replace(route(A, B), actions=((Label.RATE_LIMITED, Override(seconds=90)),))
    stage = Stage()
    said = reply(Label.RATE_LIMITED, then=Then(retry_same=1, seconds=7))
    assert stage.answer(on, [said, said, OK]).sent == [A, A, B]
    assert stage.suspended() == {key(A): 90.0}
    stage = Stage()
    assert stage.answer(on, [REFUSAL, OK]).sent == [A, B]
    assert stage.suspended() == {key(A): SHORT_STEP}


def test_what_two_that_run_at_once_come_to_is_learnt_of_each() -> None:
    """A05: a refusal of one is imposed, its probe is free, and the other one's answer confirms it."""
    stage = Stage()
    stage.suspend(A, 5)
    stage.clock.now += 5
    exchange, step = stage.open(route(A, B, C), streamed=True)
    assert step == Attempt(1, A)
    stage.clock.now += 15
    assert exchange.hedge(A, stage.now) == Attempt(2, B)
    assert exchange.judge(REFUSAL, stage.now, A) == Continue()
    expected = exchange.outcomes[0].suspension
    assert expected is not None and expected.until == stage.now + SHORT_STEP, "what it will be if B answers"
    assert not stage.suspensions.is_probed(key(A))
    assert stage.suspended() == {key(A): IN_DOUBT}
    exchange.accept(B)
    assert stage.suspended() == {key(A): SHORT_STEP}
    assert exchange.outcomes[0].suspension == stage.suspensions.get(key(A))


def test_who_was_refused_in_a_hedge_is_asked_no_more() -> None:
    """A05, law 2: nor is what it spoke for."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B, C), streamed=True)
    stage.clock.now += 15
    exchange.hedge(A, stage.now)
    exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now, A)
    assert exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now, B) == Attempt(3, C)
    refused = exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now)
    assert isinstance(refused, Refuse)


def test_a_second_opinion_is_not_hedged() -> None:
    """J03: there is a reply in hand already."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B, C), streamed=True)
    odd = reply(Label.UNKNOWN, status=400, certain=False, message="odd")
    assert exchange.judge(odd, stage.now) == Attempt(2, C, opinion=True)
    assert exchange.hedge(C, stage.now + 20) is None


@pytest.mark.parametrize("end", ["release", "refusal", "cancelled", "unsendable"])
def test_q02_a_place_is_left_however_an_attempt_ends(end: str) -> None:
    """Q02: it is told once more when the layer has finished, and a wait for a turn ends with its call."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"a": 1})
    exchange, step = stage.open(route(A))
    assert step == Attempt(1, A)
    waiting, step = stage.open(route(A))
    assert isinstance(step, Wait)
    assert stage.pacing.of("a") == (1, 1, 1)
    look = waiting.look_in()
    assert look is not None and look > 0 and exchange.look_in() is None
    match end:
        case "release":
            exchange.accept()
            assert stage.pacing.of("a") == (1, 1, 1), "the stream goes on"
        case "refusal":
            exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now)
        case "cancelled":
            exchange.cancelled()
        case "unsendable":
            exchange.unsendable(Label.REQUEST_INVALID, "builtin/rewrite", "no", stage.now)
    exchange.finished()
    exchange.finished()
    assert stage.pacing.of("a") == (0, 1, 1)
    waiting.finished()
    assert stage.pacing.of("a") == (0, 0, 1)
    assert waiting.look_in() is None


def test_a05_when_an_attempt_is_given_up() -> None:
    """A05: with a reply in hand after its limit; asked twice, not before the deadline nor before its own usual time."""
    stage = Stage()

    def exchange(streamed: bool = True, **budget: float) -> Exchange:
        made = stage.exchange(route(A, B, C, budget=Budget(**budget)), streamed=streamed)  # type: ignore[arg-type]
        made.begin(stage.now)
        return made

    plain = exchange(streamed=False, silence=20)
    assert plain.end_at(A, stage.now, stage.now) == math.inf
    plain.hedge(A, stage.now)
    assert plain.end_at(A, stage.now, stage.now) == plain.deadline
    for _ in range(5):
        stage.suspensions.first_events.spoke((key(A), False), 50.0)
        stage.suspensions.first_events.spoke((key(B), False), 20.0)
    assert plain.end_at(A, stage.now, stage.now) == stage.now + 100
    assert plain.end_at(B, stage.now, stage.now) == plain.deadline
    assert plain.end_at(B, stage.now + 30, stage.now + 30) == stage.now + 70
    off = exchange(hedge_after=0)
    assert off.end_at(A, stage.now, stage.now) == stage.now + 45
    assert off.end_at(A, stage.now + 30, stage.now + 30) == off.deadline
    off.judge(REFUSAL, stage.now)
    assert off.end_at(B, stage.now + 30, stage.now + 30) == stage.now + 75


def test_a05_an_attempt_that_waits_for_its_own_limit_asks_nobody_else() -> None:
    """A05: with two attempts of the budget left one may be asked as well, with one not."""
    stage = Stage()
    for attempts, asks in ((2, True), (1, False)):
        exchange = stage.exchange(route(A, B, budget=Budget(attempts=attempts)), streamed=True)
        exchange.begin(stage.now)
        assert (exchange.ask_at(A, stage.now) < math.inf) is asks
    two = stage.exchange(route(A, B), streamed=True, prefers="")
    two.begin(stage.now)
    assert two.ask_at(A, stage.now - 3) == stage.now + 12


def test_j01_a_candidate_that_comes_after_a_comparison_is_asked_once_more_as_ever() -> None:
    """J01: what was waited for is over: a pause before a repeat is a pause before a repeat."""
    stage = Stage()
    odd = reply(Label.UNKNOWN, status=400, certain=False, message="odd")
    first, second = stage.open(route(A, B))[0], stage.open(route(A, B))[0]
    first.judge(odd, stage.now)
    assert isinstance(second.judge(odd, stage.now), Wait)
    first.judge(OK, stage.now)
    assert second.is_ready()
    assert second.resume(stage.now) == Attempt(2, B)
    pause = second.judge(reply(Label.OVERLOADED), stage.now)
    assert isinstance(pause, Wait)
    stage.clock.now += pause.seconds
    assert second.resume(stage.now) == Attempt(3, B, repeat=True)
    assert second.judge(OK, stage.now) == Release(3)


def test_j02_a_wait_for_another_comparison_is_counted() -> None:
    """W02, J01."""
    stage = Stage()
    odd = reply(Label.UNKNOWN, status=400, certain=False, message="odd")
    first, second = stage.open(route(A, B))[0], stage.open(route(A, B))[0]
    first.judge(odd, stage.now)
    second.judge(odd, stage.now)
    stage.clock.now += 3
    first.judge(odd, stage.now)
    assert second.resume(stage.now) == Release(1)
    assert second.waited == 3.0


def test_w08_no_comparison_begins_after_the_deadline() -> None:
    """W08: the reply that is at hand is given."""
    stage = Stage()
    odd = reply(Label.UNKNOWN, status=400, certain=False, message="odd")
    exchange, _ = stage.open(route(A, B))
    assert exchange.judge(odd, stage.now + 55) == Release(1)
    assert stage.suspensions.learned.asked == 0


@pytest.mark.parametrize("after", [0.5, -5.0])
def test_a05_what_was_given_up_says_for_how_long_it_was_waited_for(after: float) -> None:
    """A05: to a tenth of a second, and never less than none. It counts as slow, unless it had spoken."""
    for heard in (False, True):
        stage = Stage()
        exchange, _ = stage.open(route(A, B), streamed=True)
        exchange.hedge(A, stage.now)
        if heard:
            exchange.spoke(A, 0.25)
        stage.clock.now += after
        exchange.accept(B)
        waited = max(0.0, after)
        assert exchange.outcomes[0].verdict.evidence == f"given up after {waited} s: b m1 was faster"
        times = stage.suspensions.first_events
        assert times.pace((key(A), True)) == (Pace(0.25, 0.25, 1) if heard else Pace(2 * waited, 2 * waited, 1))
        assert times.pace((key(B), True)) is None


def test_a05_a_fault_of_one_of_two_that_suspends_nobody_frees_its_probe() -> None:
    """F14: the next call may find out."""
    stage = Stage()
    stage.suspend(A, 5)
    stage.clock.now += 5
    exchange, step = stage.open(route(A, candidate("b", "m2")), streamed=True)
    assert step == Attempt(1, A)
    assert exchange.hedge(A, stage.now) is not None
    assert exchange.judge(reply(Label.CAPABILITY_UNSUPPORTED), stage.now, A) == Continue()
    assert not stage.suspended()
    assert stage.open(route(A))[1] == Attempt(1, A)
    assert stage.open(route(A, B))[1] == Attempt(1, B)


def test_q02_of_two_attempts_each_has_its_own_place() -> None:
    """Q02: one that is not counted leaves none, and the other one keeps its own."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"b": 1})
    exchange, _ = stage.open(route(A, B), streamed=True)
    assert exchange.hedge(A, stage.now) == Attempt(2, B)
    assert exchange.judge(REFUSAL, stage.now, A) == Continue()
    assert stage.pacing.of("b") == (1, 0, 1)
    exchange.finished()
    assert stage.pacing.of("b") == (0, 0, 1)


def test_a08_another_upstreams_candidate_is_nobody_to_be_asked_first_there() -> None:
    """A08: twice the only credential of an upstream: the upstream is out, whoever else the route has."""
    stage = Stage()
    assert stage.answer(route(A, C), [fault(FaultKind.CLOSED)] * 2 + [OK]).sent == [A, A, C]
    assert stage.suspended() == {key(A, Scope.UPSTREAM): 3.0}
    two = Stage()
    assert two.answer(route(M1, M2, C), [fault(FaultKind.CLOSED)] * 2 + [OK]).sent == [M1, M1, C]
    assert two.suspended() == {key(M1, Scope.UPSTREAM): 3.0}, "another model of it is no other credential"
    three = Stage()
    three.suspend(B, 60)
    assert three.answer(route(A, B, C), [fault(FaultKind.CLOSED)] * 2 + [OK]).sent == [A, A, C]
    assert key(A, Scope.UPSTREAM) in three.suspended(), "one that is out cannot be asked first"


def test_q02_a_turn_that_has_come_is_not_taken_by_who_cannot_use_it() -> None:
    """Q02: its candidate is out meanwhile, or the deadline has passed."""
    for what in ("suspended", "late"):
        stage = Stage()
        stage.pacing = Pacing(stage.clock)
        stage.pacing.use({"a": 1})
        holder, _ = stage.open(route(A))
        waiting, step = stage.open(route(A, C, budget=Budget(seconds=30)))
        assert isinstance(step, Wait)
        stage.clock.now += 2
        holder.finished()
        assert waiting.is_ready()
        if what == "suspended":
            stage.suspend(A)
            assert waiting.resume(stage.now) == Attempt(1, C)
            assert waiting.waited == 2.0
        else:
            stage.clock.now += 28
            assert isinstance(waiting.resume(stage.now), Refuse)
        assert stage.pacing.of("a") == (0, 0, 1)


def test_q02_a_turn_that_is_taken_is_counted_as_a_wait() -> None:
    """Q02, W02."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"a": 1})
    holder, _ = stage.open(route(A))
    waiting, _ = stage.open(route(A))
    stage.clock.now += 0.5
    holder.finished()
    assert waiting.resume(stage.now) == Attempt(1, A)
    assert waiting.waited == 0.5
    assert stage.pacing.of("a") == (1, 0, 1)


NOTHING_SAID = Scripted(200, verdict=Verdict(Label.UNKNOWN, NO_ANSWER, "no choices", certain=False))
"""A reply that claims a success and is none."""


def test_j01_what_is_no_answer_is_put_to_one_after_the_other() -> None:
    """J01: until one answers or refuses; what the others have of their own is their own trouble."""
    stage = Stage()
    third, fourth = candidate("c", "m2", at=OTHER), candidate("d")
    exchange, _ = stage.open(route(A, C, third, fourth))
    assert exchange.judge(NOTHING_SAID, stage.now) == Attempt(2, C, opinion=True)
    rejected = reply(Label.CREDENTIAL_REJECTED, status=403)
    assert exchange.judge(rejected, stage.now) == Attempt(3, fourth, opinion=True), "not to the same login"
    assert exchange.outcomes[1].attempt.candidate == C
    assert exchange.outcomes[1].status == 403 and exchange.outcomes[1].suspension is not None
    assert exchange.judge(OK, stage.now) == Release(3)
    assert stage.suspended() == {key(A): IN_DOUBT, key(C, Scope.CREDENTIAL): 1800.0}


def test_j01_of_what_is_no_answer_the_tool_gets_the_first_where_nobody_answers() -> None:
    """J02: the other one refuses the request, or nobody else is left."""
    bad = reply(Label.REQUEST_INVALID, certain=False, message="odd")
    for replies, sent in (([NOTHING_SAID, bad], [A, B]), ([NOTHING_SAID, reply(Label.QUOTA_EXHAUSTED)], [A, B])):
        played = Stage().answer(route(A, B), replies)
        assert (played.sent, played.end) == (sent, Release(1))


def test_a05_what_one_of_two_has_said_holds_for_the_rest_of_the_call() -> None:
    """F10: the same model elsewhere is not asked what is too long for it."""
    stage = Stage()
    small, large, same = candidate("a"), candidate("b", "m2"), candidate("c", "m1")
    too_long = reply(Label.CONTEXT_EXCEEDED)
    exchange, _ = stage.open(route(small, large, same), streamed=True)
    assert exchange.hedge(small, stage.now) == Attempt(2, large)
    assert exchange.judge(too_long, stage.now, small) == Continue()
    assert exchange.judge(too_long, stage.now) == Release(1, final=True, retry=False)


def test_whoever_is_due_at_this_moment_can_be_asked() -> None:
    """F14: nobody else has looked at the clock since."""
    stage = Stage()
    stage.suspend(B, 5)
    exchange, step = stage.open(route(A, B), streamed=True)
    assert step == Attempt(1, A)
    assert not exchange.has_another(stage.now)
    stage.clock.now += 5
    assert exchange.has_another(stage.now)
    hedging = Stage()
    hedging.suspend(B, 5)
    exchange, _ = hedging.open(route(A, B), streamed=True)
    hedging.clock.now += 5
    assert exchange.hedge(A, hedging.now) == Attempt(2, B)
    comparing = Stage()
    comparing.suspend(B, 5)
    exchange, _ = comparing.open(route(A, B))
    comparing.clock.now += 5
    odd = reply(Label.UNKNOWN, status=400, certain=False, message="odd")
    assert exchange.judge(odd, comparing.now) == Attempt(2, B, opinion=True)
    failing = Stage()
    failing.suspend(B, 5)
    exchange, _ = failing.open(route(A, B))
    failing.clock.now += 5
    assert exchange.judge(REFUSAL, failing.now) == Attempt(2, B)


def test_f14_a_repeat_that_is_not_made_holds_no_probe() -> None:
    """F14: another exchange has learnt meanwhile that the credential is out; when that is over the next one probes."""
    stage = Stage()
    stage.suspend(A, 5)
    stage.clock.now += 5
    probe, step = stage.open(route(A, B))
    assert step == Attempt(1, A)
    pause = probe.judge(reply(Label.OVERLOADED), stage.now)
    assert isinstance(pause, Wait)
    stage.suspend(A, 60, scope=Scope.CREDENTIAL)
    stage.clock.now += pause.seconds
    assert probe.resume(stage.now) == Attempt(2, B)
    stage.suspensions.resume(key(A, Scope.CREDENTIAL))
    assert stage.open(route(A, B))[1] == Attempt(1, A)


def test_s03_the_stream_that_died_is_that_of_the_attempt_that_was_released() -> None:
    """S03: whatever the attempts before it had come to."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    exchange.judge(REFUSAL, stage.now)
    exchange.accept()
    outcome = exchange.failed_after_release(fault(FaultKind.CUT), stage.now)
    assert outcome is not None and outcome.attempt.candidate == B
    assert key(B) in stage.suspended()


def test_j04_only_what_was_said_is_said_to_be_alike() -> None:
    """J04: what was never sent said nothing."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B, C))
    exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "gone", stage.now)
    exchange.judge(REFUSAL, stage.now)
    assert isinstance(exchange.judge(REFUSAL, stage.now), Release)
    assert [outcome.compared for outcome in exchange.outcomes] == [None, Compared.ALIKE, Compared.ALIKE]


def test_a_wait_can_end_when_its_candidate_is_due() -> None:
    """F14: nobody else has looked at the clock since; the one that is waited for need not be the first."""
    stage = Stage()
    stage.suspend(A, 20)
    stage.suspend(B, 5)
    exchange, step = stage.open(route(A, B))
    assert isinstance(step, Wait) and not exchange.is_ready()
    stage.clock.now += 5
    assert exchange.is_ready()
    assert exchange.resume(stage.now) == Attempt(1, B)


def test_q02_what_could_not_be_sent_is_not_under_way() -> None:
    """Q02, law 5: while the call goes on elsewhere."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({"a": 1, "b": 1})
    exchange, _ = stage.open(route(A, B))
    assert exchange.unsendable(Label.REQUEST_INVALID, "builtin/rewrite", "no", stage.now) == Attempt(2, B)
    assert (stage.pacing.of("a"), stage.pacing.of("b")) == ((0, 0, 1), (1, 0, 1))
    exchange.finished()


def test_m03_what_falls_due_before_a_call_begins_is_asked_for() -> None:
    """M03: the exchange was made a moment before."""
    stage = Stage()
    others = Others(grants=False)
    stage.suspensions.peers = others
    stage.suspend(A, 5)
    exchange = stage.exchange(route(A, B))
    stage.clock.now += 5
    del others.told[:]
    assert exchange.begin(stage.now) == Attempt(1, B)
    assert others.told == [("grant", key(A)), ("wants", key(A))]


def test_j05_what_one_of_two_says_is_as_wide_as_its_own_credential_shows() -> None:
    """J05, A05: whoever else is asked at that moment."""
    for answered, scope in (("a", Scope.CANDIDATE), ("b", Scope.CREDENTIAL)):
        stage = Stage()
        stage.suspensions.answers.answered((answered, 0), "m2", stage.now)
        exchange, _ = stage.open(route(A, B), streamed=True)
        assert exchange.hedge(A, stage.now) == Attempt(2, B)
        assert exchange.judge(reply(Label.QUOTA_EXHAUSTED), stage.now, A) == Continue()
        assert list(stage.suspended()) == [key(A, scope)]


@pytest.mark.parametrize(("seconds", "retry"), [(60, True), (61, False)])
def test_w05_a_round_within_a_minute_can_help(seconds: int, retry: bool) -> None:
    """W05: to the second."""
    limited = reply(Label.RATE_LIMITED, retry_after=str(seconds))
    played = Stage().answer(route(A, B, budget=Budget(wait=0)), [limited, REFUSAL])
    assert played.end == Release(1, final=True, retry=retry)


@pytest.mark.parametrize("what", ["in doubt", "withheld", "refused by all"])
def test_q02_a_last_resort_waits_for_no_step(what: str) -> None:
    """Q02: beginnings are spaced after a switch, and this call would be refused instead."""
    stage = Stage()
    stage.pacing = Pacing(stage.clock)
    stage.pacing.use({})
    if what == "withheld":
        stage.suspensions.peers = Others(grants=False)
    label = Label.QUOTA_EXHAUSTED if what == "in doubt" else Label.MODEL_UNSUPPORTED
    imposed = [stage.suspend(each, 5 if what == "withheld" else 600, label=label) for each in (A, B)]
    if what == "in doubt":
        stage.suspensions.put_in_doubt(each for each in imposed if each is not None)
    if what == "withheld":
        stage.clock.now += 5
    stage.pacing.switched_to("a")
    lane = stage.pacing.lane("a")
    assert lane is not None
    under_way = lane.begin()
    assert under_way is not None and lane.begin() is None
    _, step = stage.open(route(A, B, budget=Budget(wait=0)))
    assert step == Attempt(1, A, early=what != "withheld")
    under_way.leave()


def test_w01_who_was_tried_may_be_asked_once_more_after_a_wait() -> None:
    """W01, law 2: its limit is over by then."""
    stage = Stage()
    exchange, _ = stage.open(route(A, B))
    exchange.judge(reply(Label.RATE_LIMITED, retry_after="20"), stage.now)
    step = exchange.judge(reply(Label.RATE_LIMITED, retry_after="25"), stage.now)
    assert step == Wait(20.0, "every candidate is suspended")
    stage.clock.now += 20
    assert exchange.resume(stage.now) == Attempt(3, A, repeat=True)
