"""What has expired is found out about by one attempt at a time, and what is late changes nothing that is newer."""

from __future__ import annotations

import pytest

from tests.support.decisions import NOW, OPENAI, OTHER, Source, Stage, candidate, fault, reply, route
from understudy.failover.penalties import SHORT_STEP
from understudy.failover.steps import Attempt, Release, Wait
from understudy.model.pool import Budget, Candidate, Credential
from understudy.model.suspension import Key, key_of
from understudy.model.verdict import Label, Scope, Then
from understudy.replies.reply import FaultKind, Reply
from understudy.suspensions.ladder import Rung

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
ON = route(A, B)
OK = reply(Label.OK)
REFUSAL = reply(Label.MODEL_UNSUPPORTED)
BUSY = reply(Label.OVERLOADED, then=Then(retry_same=0))
SHORT, LONG, LONGEST = 600.0, 3600.0, 43200.0
IN_DOUBT = 30.0
"""The short step while, or where, several credentials refuse one request alike (J04)."""
M1, M2 = candidate("one", "m1"), candidate("one", "m2")
ONE = route(M1, M2)
"""Two models of one credential: that both refuse casts no doubt on the request."""


def key(of: Candidate, scope: Scope = Scope.CANDIDATE) -> Key:
    return key_of(of, scope)


def half_open(stage: Stage) -> None:
    """A has refused, B has answered, and A's time is over."""
    stage.answer(ON, [REFUSAL, OK])
    stage.clock.now += SHORT


def test_f14_exactly_one_probes_and_the_others_go_elsewhere() -> None:
    """F14: of N simultaneous requests one probes A, the others use B; A works: back in rotation for all."""
    stage = Stage()
    half_open(stage)
    opened = [stage.open(ON) for _ in range(5)]
    assert [step.candidate for _, step in opened if isinstance(step, Attempt)] == [A, B, B, B, B]
    probe, _ = opened[0]
    assert probe.judge(OK, stage.now) == Release(1)
    probe.succeeded()
    assert [stage.open(ON)[1] for _ in range(3)] == [Attempt(1, A)] * 3


def test_f14_a_refused_probe_climbs_the_ladder_and_a_success_takes_it_down() -> None:
    """F14: probe refused: 1 h, then 12 h; a success: 10 min again."""
    stage = Stage()
    half_open(stage)
    assert stage.answer(ON, [REFUSAL, OK]).sent == [A, B]
    assert stage.suspended() == {key(A): LONG}
    stage.clock.now += LONG
    stage.answer(ON, [REFUSAL, OK])
    assert stage.suspended() == {key(A): LONGEST}
    stage.clock.now += LONGEST
    assert stage.answer(ON, [OK]).sent == [A]
    stage.answer(ON, [REFUSAL, OK])
    assert stage.suspended() == {key(A): SHORT}


@pytest.mark.parametrize("end", ["cancelled", "neutral", "unsendable", "released", "faulted"])
def test_f14_the_slot_is_free_on_every_outcome(end: str) -> None:
    """F14: probe cancelled, neutral, never sent, or begun to stream: the next one may probe."""
    stage = Stage()
    half_open(stage)
    probe, step = stage.open(ON)
    assert step == Attempt(1, A)
    assert stage.open(ON)[1] == Attempt(1, B)
    match end:
        case "cancelled":
            probe.cancelled()
        case "neutral":
            assert probe.judge(reply(Label.REQUEST_INVALID), stage.now) == Release(1)
        case "unsendable":
            probe.unsendable(Label.REQUEST_INVALID, "builtin/rewrite", "no model", stage.now)
        case "released":
            probe.accept()
        case "faulted":
            # What its upstream did says nothing about the model: the key of the candidate is half-open still.
            probe.judge(fault(FaultKind.CONNECT), stage.now)
            stage.clock.now += 5.0
    assert stage.open(ON)[1] == Attempt(1, A)


def test_f14_a_repeat_keeps_the_slot_of_its_probe() -> None:
    """F14: while the overloaded probe pauses before its one repeat, nobody else probes."""
    stage = Stage()
    half_open(stage)
    probe, _ = stage.open(ON)
    step = probe.judge(reply(Label.OVERLOADED), stage.now)
    assert isinstance(step, Wait)
    assert stage.open(ON)[1] == Attempt(1, B)
    stage.clock.now += step.seconds
    again = probe.resume(stage.now)
    assert again == Attempt(2, A, repeat=True)
    assert stage.open(ON)[1] == Attempt(1, B)
    probe.judge(OK, stage.now)
    assert stage.open(ON)[1] == Attempt(1, A)


def test_a_tool_that_goes_away_during_the_pause_of_its_probe_frees_the_slot() -> None:
    """F14, L12: the wait is over for good, and so is the claim to the slot."""
    stage = Stage()
    half_open(stage)
    probe, _ = stage.open(ON)
    assert isinstance(probe.judge(reply(Label.OVERLOADED), stage.now), Wait)
    probe.cancelled()
    assert stage.open(ON)[1] == Attempt(1, A)


def test_l08_an_upstream_is_probed_by_one_for_all_its_candidates() -> None:
    """L08: one probe per window, whatever the credential; and it is asked again within 15 s of its recovery."""
    stage = Stage()
    there = [candidate(name, at=OTHER) for name in ("x", "y", "z")]
    on = route(*there, A)
    for seconds in (3.0, 6.0, 12.0, 12.0, 12.0):
        assert stage.answer(on, [fault(), OK]).sent == [there[0], A]
        assert stage.suspended() == {key(there[0], Scope.UPSTREAM): seconds}
        assert stage.answer(on, [OK]).sent == [A]
        stage.clock.now += seconds
        probing, step = stage.open(on)
        assert step == Attempt(1, there[0])
        assert stage.open(on)[1] == Attempt(1, A)  # y and z are at the same upstream
        probing.cancelled()
    assert stage.answer(on, [OK]).sent == [there[0]]
    assert stage.answer(on, [fault(), OK]).sent == [there[0], A]
    assert stage.suspended() == {key(there[0], Scope.UPSTREAM): 3.0}


def test_l08_a_dead_favourite_is_probed_seldom_and_a_recovered_one_is_back_soon() -> None:
    """L08: with a call every tenth of a second: at most 16 probes in 45 s, and used again within 15 s of traffic."""
    for seed in range(20):
        stage, probes = Stage(), 0
        on = route(A, C)
        for call in range(450):
            exchange, step = stage.open(on, seed=seed * 1000 + call)
            while isinstance(step, Attempt | Wait):
                if isinstance(step, Wait):
                    stage.clock.now += step.seconds
                    step = exchange.resume(stage.now)
                    continue
                probes += step.candidate == A
                step = exchange.judge(OK if step.candidate == C else BUSY, stage.now)
            stage.clock.now += 0.1
        assert probes <= 16
        recovered = stage.now
        while stage.open(on)[1] != Attempt(1, A):
            stage.clock.now += 0.1
        assert stage.now - recovered <= 15.0


def test_a_wait_for_somebody_elses_probe_ends_with_it() -> None:
    """W01, F14: with nobody else to ask, the others wait for what the probe finds out, and no longer."""
    stage = Stage()
    on = route(A, B, budget=Budget(wait=10))
    for each in (A, B):
        stage.suspend(each, 5)
    stage.clock.now += 5
    first, second = stage.open(on), stage.open(on)
    assert [first[1], second[1]] == [Attempt(1, A), Attempt(1, B)]
    third, step = stage.open(on)
    assert step == Wait(10.0, "every candidate is suspended")
    assert not third.is_ready()
    stage.clock.now += 3
    assert third.resume(stage.now) == Wait(7.0, "every candidate is suspended")
    first[0].judge(OK, stage.now)
    assert third.is_ready()
    assert third.resume(stage.now) == Attempt(1, A)


def test_a_wait_ends_when_somebody_is_resumed_by_hand() -> None:
    """Point 4 of the policy: the wait is for the earliest, and a hand is earlier."""
    stage = Stage()
    stage.suspend(A, 20)
    stage.suspend(B, 25)
    exchange, step = stage.open(ON)
    assert step == Wait(20.0, "every candidate is suspended")
    assert not exchange.is_ready()
    stage.suspensions.resume(key(B))
    assert exchange.is_ready()
    assert exchange.resume(stage.now) == Attempt(1, B)


def test_a_patient_wait_ends_when_its_candidate_is_resumed_by_hand() -> None:
    stage = Stage()
    exchange, _ = stage.open(ON)
    assert isinstance(exchange.judge(reply(Label.RATE_LIMITED, retry_after="3"), stage.now), Wait)
    assert not exchange.is_ready()
    stage.suspensions.resume(key(A))
    assert exchange.is_ready()
    assert exchange.resume(stage.now) == Attempt(2, A, repeat=True)


def test_a_wait_that_is_looked_at_too_early_goes_on() -> None:
    """The alarm may ring a moment early: the rest is waited for, nothing is sent before its time."""
    stage = Stage()
    exchange, _ = stage.open(ON)
    step = exchange.judge(reply(Label.RATE_LIMITED, retry_after="2"), stage.now)
    assert step == Wait(2.0, "a m1: rate_limited, tried once more")
    stage.clock.now += 1.996
    rest = exchange.resume(stage.now)
    assert isinstance(rest, Wait)
    assert rest.seconds == pytest.approx(0.004, abs=1e-6)
    stage.clock.now += 0.004
    assert exchange.resume(stage.now) == Attempt(2, A, repeat=True)


def test_l13_the_others_go_elsewhere_while_one_is_patient() -> None:
    """L13: one waits the 2 s out and asks again; who comes meanwhile goes to B, and there is no rush at the end."""
    stage = Stage()
    patient, _ = stage.open(ON)
    late, _ = stage.open(ON)
    for each in (patient, late):
        assert isinstance(each.judge(reply(Label.RATE_LIMITED, retry_after="2"), stage.now), Wait)
    assert stage.open(ON)[1] == Attempt(1, B)
    stage.clock.now += 2
    assert patient.resume(stage.now) == Attempt(2, A, repeat=True)
    # Nor does the other one use up what is left of B (Q02): it waits until it shows whether A is back.
    assert isinstance(late.resume(stage.now), Wait)
    assert not late.is_ready()
    patient.accept()
    assert late.is_ready()
    assert late.resume(stage.now) == Attempt(2, A, repeat=True)


def test_q02_a_limit_that_lasts_is_no_reason_to_wait_any_longer() -> None:
    """Q02: A's limit is not over after all: whoever waited for the one that found out goes to B."""
    stage = Stage()
    patient, _ = stage.open(ON)
    late, _ = stage.open(ON)
    for each in (patient, late):
        assert isinstance(each.judge(reply(Label.RATE_LIMITED, retry_after="2"), stage.now), Wait)
    stage.clock.now += 2
    assert patient.resume(stage.now) == Attempt(2, A, repeat=True)
    wait = late.resume(stage.now)
    assert isinstance(wait, Wait)
    assert wait.seconds <= ON.budget.patience
    assert patient.judge(reply(Label.RATE_LIMITED, retry_after="60"), stage.now) == Attempt(3, B)
    stage.clock.now += wait.seconds
    assert late.resume(stage.now) == Attempt(2, B)


# -- F12: all refuse ---------------------------------------------------------------------------------------------


def test_f12_when_all_refuse_only_the_short_step_is_recorded() -> None:
    """F12: again and again, each is suspended for the short step only, and the first refusal reaches the tool."""
    stage = Stage()
    for _ in range(3):
        played = stage.answer(ON, [REFUSAL, REFUSAL])
        assert played.end == Release(1, final=True, retry=False)
        assert stage.suspended() == {key(A): IN_DOUBT, key(B): IN_DOUBT}
        stage.clock.now += IN_DOUBT
    for _ in range(3):
        played = stage.answer(ONE, [REFUSAL, REFUSAL])
        assert played.end == Release(1, final=True, retry=False)
        assert stage.suspended() == {key(M1): SHORT, key(M2): SHORT}
        stage.clock.now += SHORT


def test_f12_what_another_candidate_says_makes_the_step_count() -> None:
    """F12: B does not refuse, so A's refusal is A's: counted, and lengthened where the ladder had been climbed."""
    stage = Stage()
    half_open(stage)
    exchange, _ = stage.open(ON)
    assert exchange.judge(REFUSAL, stage.now) == Attempt(2, B)
    assert stage.suspended() == {key(A): IN_DOUBT}  # nobody knows yet whether it is the model or the candidate
    exchange.accept()
    assert stage.suspended() == {key(A): LONG}


# -- L11: this machine's network ---------------------------------------------------------------------------------


def test_l11_when_nobody_can_be_reached_nothing_is_suspended_for_long() -> None:
    """L11: every upstream unreachable, again and again: 3 s each, however often; one that is reached: the ladder."""
    stage = Stage()
    on = route(A, C, budget=Budget(wait=0))
    for _ in range(4):
        refused = stage.answer(on, [fault(), fault()]).refused
        assert "check the network of this machine first" in refused.message
        assert stage.suspended() == {key(A, Scope.UPSTREAM): 3.0, key(C, Scope.UPSTREAM): 3.0}
        stage.clock.now += 5
    for seconds in (3.0, 6.0, 12.0):
        assert stage.answer(on, [fault(), OK]).sent == [A, C]
        assert stage.suspended() == {key(A, Scope.UPSTREAM): seconds}
        stage.clock.now += seconds


# -- F16: late results -------------------------------------------------------------------------------------------


def test_f16_a_late_failure_does_not_undo_a_hand() -> None:
    """F16: begun before the resume, failed after it."""
    stage = Stage()
    late, _ = stage.open(ON)
    stage.suspend(A, 600)
    assert stage.suspensions.resume(key(A)) is not None
    assert late.judge(BUSY, stage.now) == Attempt(2, B)
    assert stage.suspended() == {}
    stage.answer(ON, [BUSY, OK])
    assert stage.suspended() == {key(A): 3.0}


@pytest.mark.parametrize("said", [BUSY, REFUSAL, reply(Label.CREDENTIAL_REJECTED), reply(Label.QUOTA_EXHAUSTED)])
def test_f16_a_late_failure_of_an_old_secret_says_nothing_about_the_new_one(said: object) -> None:
    """F16: begun before the secret changed."""
    stage = Stage()
    late, _ = stage.open(ON)
    stage.suspensions.renew("a")
    late.judge(said, stage.now)  # type: ignore[arg-type]
    assert stage.suspended() == {}


def test_f16_a_late_success_of_an_old_secret_lifts_nothing() -> None:
    stage = Stage()
    late, _ = stage.open(ON)
    stage.suspensions.renew("a")
    stage.answer(ON, [REFUSAL, OK])
    assert late.judge(OK, stage.now) == Release(1)
    late.succeeded()
    assert set(stage.suspended()) == {key(A)}


def test_f16_a_late_success_of_an_old_secret_proves_nothing_about_what_is_half_open() -> None:
    """F16: the limits of the account stay, and with them the need to find out whether it is back."""
    stage = Stage()
    half_open(stage)
    probe, step = stage.open(ON)
    assert step == Attempt(1, A)
    stage.suspensions.renew("a", rejected_only=True)
    probe.judge(OK, stage.now)
    probe.succeeded()
    assert stage.suspensions.half_open(key(A)) is not None
    assert stage.answer(ON, [OK]).sent == [A]
    assert stage.suspensions.half_open(key(A)) is None


def test_f16_another_secret_takes_its_suspensions_along() -> None:
    """F16: what was learnt with the old one is void; another token of the same account is still out of quota."""
    stage = Stage()
    stage.answer(ON, [reply(Label.CREDENTIAL_REJECTED), OK])
    stage.suspensions.renew("a", rejected_only=True)
    assert stage.suspended() == {}
    stage.answer(ON, [reply(Label.QUOTA_EXHAUSTED), OK])
    stage.suspensions.renew("a", rejected_only=True)
    assert set(stage.suspended()) == {key(A, Scope.CREDENTIAL)}
    stage.suspensions.renew("a")
    assert stage.suspended() == {}
    assert stage.suspensions.generations["a"] == 3


def test_f16_an_attempt_that_goes_out_with_a_fetched_secret_is_newer_than_it() -> None:
    """F16, L06: the secret was fetched anew just before it was sent: what is said of it is about the new one."""
    stage = Stage()
    half_open(stage)
    late, _ = stage.open(ON)
    stage.suspensions.renew("a", rejected_only=True)
    late.renewed()
    assert late.attempt == Attempt(1, A)
    assert stage.open(ON)[1] == Attempt(1, B)  # it probes with its new ticket
    assert late.judge(BUSY, stage.now) == Attempt(2, B)
    assert stage.suspended() == {key(A): 3.0}
    with pytest.raises(RuntimeError):
        stage.exchange(ON).renewed()


def test_the_evidence_says_what_was_known() -> None:
    """Each suspension tells rule, label, excerpt, candidate, times, hint and generation."""
    stage = Stage()
    stage.suspensions.renew("a")
    stage.answer(ON, [reply(Label.RATE_LIMITED, retry_after="20", evidence="HTTP 429: slow down"), OK])
    [found] = stage.suspensions
    assert (found.rule, found.label, found.evidence) == ("test/rate_limited", Label.RATE_LIMITED, "HTTP 429: slow down")
    assert (found.since, found.until, found.hint) == (NOW, NOW + 20, "retry-after")
    assert (found.candidate, found.generation, found.step) == ("a m1", 1, 0)


# -- F17: all suspended for a refusal ----------------------------------------------------------------------------


def all_refused(stage: Stage) -> None:
    assert stage.answer(ONE, [REFUSAL, REFUSAL]).released == 1


def test_f17_one_early_probe_per_candidate_in_half_a_minute() -> None:
    """F17: the others get the last refusal; a refused early probe does not advance the ladder or the time."""
    stage = Stage()
    all_refused(stage)
    stage.clock.now += 100
    early, step = stage.open(ONE)
    assert step == Attempt(1, M1, early=True)
    other, step = stage.open(ONE)
    assert step == Attempt(1, M2, early=True)
    refused = stage.answer(ONE, []).refused
    assert refused.refused
    assert (refused.status, refused.retry_after) == (400, None)
    assert early.judge(REFUSAL, stage.now) == Release(1, final=True, retry=False)
    assert other.judge(REFUSAL, stage.now) == Release(1, final=True, retry=False)
    assert stage.suspended() == {key(M1): SHORT - 100, key(M2): SHORT - 100}
    stage.clock.now += 29.9
    assert stage.answer(ONE, []).refused.refused
    stage.clock.now += 0.1
    again, step = stage.open(ONE)
    assert step == Attempt(1, M1, early=True)
    again.judge(OK, stage.now)
    again.succeeded()
    assert stage.answer(ONE, [OK]).sent == [M1]


def test_f17_one_request_may_ask_all_of_them() -> None:
    """F17: M1's early probe is refused, M2's works."""
    stage = Stage()
    all_refused(stage)
    assert stage.answer(ONE, [REFUSAL, OK]).sent == [M1, M2]


def test_f17_a_token_count_is_no_early_probe() -> None:
    """F17, X02: what generates nothing finds nothing out."""
    stage = Stage()
    all_refused(stage)
    assert stage.answer(ONE, [], generating=False).refused.refused


@pytest.mark.parametrize("scope", Scope)
def test_f17_is_about_refusals_only(scope: Scope) -> None:
    """F17: one that is suspended for something else as well is not asked early."""
    stage = Stage()
    all_refused(stage)
    stage.suspend(M1, 300, scope=scope, label=Label.QUOTA_EXHAUSTED)
    stage.suspend(M2, 300, scope=scope, label=Label.QUOTA_EXHAUSTED)
    expected = scope is Scope.CANDIDATE  # there the longer one holds, and it is the refusal
    assert isinstance(stage.open(ONE)[1], Attempt) is expected


def test_f17_only_a_refusal_of_the_model_by_all_is_told_again() -> None:
    """F17: where nothing was sent for another reason, an old refusal would say the wrong thing."""
    stage = Stage()
    for each in (A, B):
        stage.suspend(each, 600, label=Label.OVERLOADED)
    assert not stage.answer(ON, []).refused.refused
    mixed = Stage()
    mixed.suspend(A, 600, label=Label.MODEL_UNSUPPORTED)
    mixed.suspend(B, 600, label=Label.RATE_LIMITED, hint="retry-after")
    assert not mixed.answer(ON, [], generating=False).refused.refused


def test_l11_an_upstream_that_is_not_reached_pays_in_full_once_another_is_reached_whatever_that_says() -> None:
    """L11: the network works then, also where the one that was reached refuses the model."""
    stage = Stage()
    on = route(A, C, budget=Budget(wait=0))
    for seconds in (3.0, 6.0):
        assert stage.answer(on, [fault(), REFUSAL]).sent == [A, C]
        assert stage.suspended()[key(A, Scope.UPSTREAM)] == seconds
        stage.suspensions.resume(key(C))
        stage.clock.now += seconds


def test_f12_a_refusal_is_not_confirmed_by_another_refusal() -> None:
    """F12: the first step only, while nobody has answered."""
    stage = Stage()
    for _ in range(2):
        stage.answer(ON, [REFUSAL, REFUSAL])
        assert stage.suspended() == {key(A): SHORT_STEP, key(B): SHORT_STEP}
        stage.clock.now += SHORT_STEP


class Refreshable(Source):
    """A secret that a program prints."""

    refreshable = True


@pytest.mark.parametrize("label", [Label.QUOTA_EXHAUSTED, Label.OVERLOADED, Label.MODEL_UNSUPPORTED])
def test_l06_only_a_rejected_secret_is_fetched_anew(label: Label) -> None:
    """L06, law 2: that a secret could be fetched again makes no other failure worth a repeat."""
    stage = Stage()
    renewable = Credential("a", OPENAI, Refreshable())
    on = route(Candidate(renewable, "m1"), B)
    said = reply(label, then=Then(retry_same=0))
    assert stage.answer(on, [said, OK]).sent == [Candidate(renewable, "m1"), B]


def test_l06_a_rejected_secret_for_which_there_is_no_other_takes_its_credential_out() -> None:
    """L06: it was rejected, and that it cannot be fetched anew makes it no better."""
    stage = Stage()
    renewable = Candidate(Credential("a", OPENAI, Refreshable()), "m1")
    exchange, _ = stage.open(route(renewable, B))
    assert isinstance(exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now), Wait)
    assert exchange.resume(stage.now) == Attempt(2, renewable, repeat=True, refresh=True)
    assert stage.suspended() == {}
    step = exchange.unsendable(Label.CREDENTIAL_REJECTED, "builtin/secret", "gone", stage.now)
    assert isinstance(step, Attempt) and step.candidate == B
    assert list(stage.suspended()) == [Key(Scope.CREDENTIAL, "a")]


def test_a_success_takes_down_a_ladder_for_which_nothing_is_held() -> None:
    """After a restart a ladder may stand without its suspension: a success is still the end of it."""
    stage = Stage()
    stage.suspensions.ladders.climb(key(A), Label.OVERLOADED, Rung(3, 0, stage.now - 1))
    assert not stage.suspensions.is_held(key(A))
    stage.answer(ON, [OK])
    assert stage.suspensions.ladders.standing(key(A)) == {}


# -- probed by hand, before its time ---------------------------------------------------------------------------------

FAILURES = {
    "refused": (REFUSAL, Scope.CANDIDATE),
    "rejected": (reply(Label.CREDENTIAL_REJECTED), Scope.CREDENTIAL),
    "quota": (reply(Label.QUOTA_EXHAUSTED), Scope.CREDENTIAL),
    "quota until": (reply(Label.QUOTA_EXHAUSTED, retry_after="7200"), Scope.CREDENTIAL),
    "limited": (reply(Label.RATE_LIMITED, retry_after="900"), Scope.CANDIDATE),
    "overloaded": (BUSY, Scope.CANDIDATE),
    "unreachable": (fault(FaultKind.CONNECT), Scope.UPSTREAM),
}


def asked_early(stage: Stage, failed: Reply, scope: Scope) -> float:
    """A has failed in this way, is suspended and to be probed at once; returns how long it would have been out."""
    stage.answer(route(A, C), [failed, OK])
    seconds = stage.suspended()[key(A, scope)]
    assert stage.suspensions.make_due(key(A, scope)) is not None
    return seconds


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failed_early_probe_suspends_again_at_once_until_the_old_end(kind: str) -> None:
    """F14: A is probed by hand and fails as before: the calls after it do not ask A, and the ladder was not climbed."""
    failed, scope = FAILURES[kind]
    stage, on = Stage(), route(A, C)
    seconds = asked_early(stage, failed, scope)
    before = stage.suspensions.ladders.standing(key(A, scope))
    sent = [played.sent for played in (stage.answer(on, [failed, OK]), *(stage.answer(on, [OK]) for _ in range(3)))]
    assert sent == [[A, C], [C], [C], [C]]
    assert stage.suspended()[key(A, scope)] >= seconds
    now = stage.suspensions.ladders.standing(key(A, scope))
    assert {label: rung.step for label, rung in now.items()} == {label: rung.step for label, rung in before.items()}


def test_while_an_early_probe_is_under_way_the_others_go_elsewhere() -> None:
    """F14: exactly one of five simultaneous requests asks A, and when it is refused nobody does."""
    stage = Stage()
    asked_early(stage, REFUSAL, Scope.CANDIDATE)
    on = route(A, C)
    opened = [stage.open(on) for _ in range(5)]
    assert [step.candidate for _, step in opened if isinstance(step, Attempt)] == [A, C, C, C, C]
    probe, _ = opened[0]
    assert probe.judge(REFUSAL, stage.now) == Attempt(2, C)
    assert [stage.open(on)[1] for _ in range(3)] == [Attempt(1, C)] * 3


@pytest.mark.parametrize("end", ["cancelled", "neutral", "older"])
def test_what_says_nothing_about_an_early_probe_leaves_the_next_one_to_find_out(end: str) -> None:
    """F14: cancelled, a fault of the request, or the late failure of an attempt that began before the probe."""
    stage, on = Stage(), route(A, C)
    older, _ = stage.open(on)
    asked_early(stage, REFUSAL, Scope.CANDIDATE)
    if end == "older":
        older.judge(REFUSAL, stage.now)
    else:
        probe, step = stage.open(on)
        assert step == Attempt(1, A)
        probe.cancelled() if end == "cancelled" else probe.judge(reply(Label.REQUEST_INVALID), stage.now)
    assert stage.open(on)[1] == Attempt(1, A)


def test_an_early_probe_that_succeeds_ends_the_suspension_and_one_after_the_old_end_climbs() -> None:
    """F14: a success resumes; a failure when the time would have been over anyway is the next step of the ladder."""
    stage, on = Stage(), route(A, C)
    asked_early(stage, REFUSAL, Scope.CANDIDATE)
    stage.answer(on, [OK])
    assert stage.answer(on, [REFUSAL, OK]).sent == [A, C]
    assert stage.suspended() == {key(A): SHORT}
    stage.suspensions.make_due(key(A))
    stage.clock.now += SHORT
    stage.answer(on, [REFUSAL, OK])
    assert stage.suspended() == {key(A): LONG}


def test_a_probe_of_a_candidate_that_fails_for_its_credential_leaves_the_candidate_out_as_well() -> None:
    """F14: A was refused, is probed by hand and its credential rejected: the model is not there until the old end."""
    stage, on = Stage(), route(A, C)
    asked_early(stage, REFUSAL, Scope.CANDIDATE)
    stage.answer(on, [reply(Label.CREDENTIAL_REJECTED), OK])
    assert stage.suspended() == {key(A): SHORT, key(A, Scope.CREDENTIAL): 1800.0}


def test_a_probe_whose_secret_was_rejected_and_is_not_fetched_anew_suspends_again() -> None:
    """F14, L06: the probe is answered with 401, the command has no other secret: out again until the old end."""
    stage, on = Stage(), route(A, C)
    seconds = asked_early(stage, reply(Label.CREDENTIAL_REJECTED), Scope.CREDENTIAL)
    probe, _ = stage.open(on)
    probe.judge(reply(Label.CREDENTIAL_REJECTED), stage.now)
    assert stage.suspended()[key(A, Scope.CREDENTIAL)] >= seconds


def test_f17_an_early_probe_that_outlives_the_suspension_does_not_climb_and_is_not_lost() -> None:
    """F17: everybody refuses, A is asked early, its suspension ends meanwhile, and it refuses: the same step anew."""
    stage = Stage()
    stage.answer(ON, [REFUSAL, OK])
    stage.suspend(B, seconds=2 * SHORT, label=Label.MODEL_UNSUPPORTED)
    early, step = stage.open(ON)
    assert isinstance(step, Attempt) and step.early
    stage.clock.now += SHORT
    early.judge(REFUSAL, stage.now)
    assert stage.suspended()[key(A)] == SHORT


def test_f17_an_early_probe_that_outlives_the_suspension_is_out_in_full_once_another_answers() -> None:
    """F17: what it was penalised with for a start, while B was still to be asked, is its own and not an older one."""
    stage = Stage()
    stage.answer(ON, [REFUSAL, OK])
    stage.clock.now += SHORT - 5
    stage.suspend(B, seconds=5, label=Label.MODEL_UNSUPPORTED)
    early, step = stage.open(route(A, B, budget=Budget(wait=0)))
    assert isinstance(step, Attempt) and step.early
    stage.clock.now += 6
    assert early.judge(REFUSAL, stage.now) == Attempt(2, B)
    told = early.outcomes[0].suspension
    early.judge(OK, stage.now)
    assert told is not None
    assert stage.suspended()[key(A)] == told.until - told.since == SHORT
    held = stage.suspensions.get(key(A))
    assert held is not None and early.outcomes[0].suspension == held


def test_one_suspension_has_one_end_although_it_is_imposed_twice() -> None:
    """F01: the refusal counts in full once B has answered; with jitter, too, its end and the outcome's are the same."""
    stage = Stage()
    exchange, step = stage.open(ON, seed=7)
    assert step == Attempt(1, A)
    exchange.judge(REFUSAL, stage.now)
    told = exchange.outcomes[0].suspension
    exchange.judge(OK, stage.now)
    assert told is not None
    assert exchange.outcomes[0].suspension == told == stage.suspensions.get(key(A))


def test_the_outcome_of_a_refusal_that_climbs_says_how_long_it_is_out_in_the_end() -> None:
    """F14: the second refusal is 10 min until B has answered, then 1 h: the outcome says 1 h."""
    stage = Stage()
    half_open(stage)
    exchange = stage.answer(ON, [REFUSAL, OK]).exchange
    assert exchange.outcomes[0].suspension == stage.suspensions.get(key(A))


def test_a_candidate_that_a_reload_took_out_comes_back_without_its_ladder() -> None:
    """O03: nothing is left of it, also when nothing but its ladder was known."""
    stage = Stage()
    stage.suspensions.ladders.climb(key(A), Label.MODEL_UNSUPPORTED, Rung(1, 0, stage.now))
    stage.suspensions.retain(lambda held: held != key(A))
    stage.answer(ON, [REFUSAL, OK])
    assert stage.suspended() == {key(A): SHORT}


def test_f17_an_early_probe_of_a_higher_step_stays_on_it() -> None:
    """F17: the step that it stood on, neither the next one nor the first."""
    stage = Stage()
    stage.answer(ON, [REFUSAL, OK])
    stage.clock.now += SHORT
    stage.answer(ON, [REFUSAL, OK])
    assert stage.suspended() == {key(A): LONG}
    stage.suspend(B, seconds=2 * LONG, label=Label.MODEL_UNSUPPORTED)
    stage.clock.now += LONG - 5
    early, step = stage.open(route(A, B, budget=Budget(wait=0)))
    assert isinstance(step, Attempt) and step.early
    stage.clock.now += 5
    stage.suspensions.resume(key(B))
    assert early.judge(REFUSAL, stage.now) == Attempt(2, B)
    expected = early.outcomes[0].suspension
    assert expected is not None and expected.until == stage.now + LONG, "what it will be if B answers"
    early.accept()
    assert stage.suspended() == {key(A): LONG}
    assert stage.suspensions.ladders.standing(key(A))[Label.MODEL_UNSUPPORTED].step == 1


def test_f14_an_attempt_that_goes_out_with_another_secret_holds_no_probe_of_the_old_one() -> None:
    """F14: when it is given up, the next one may find out."""
    stage = Stage()
    half_open(stage)
    probe, step = stage.open(ON)
    assert step == Attempt(1, A)
    probe.renewed()
    probe.cancelled()
    assert stage.open(ON)[1] == Attempt(1, A)
    count, step = stage.open(ON, generating=False)
    count.renewed()
    assert not stage.suspensions.is_probed(key(B))


def test_f14_a_probe_whose_secret_is_fetched_anew_holds_one_probe() -> None:
    """F14, L06: what the second sending finds out is its own; given up, the next call may find out."""
    stage = Stage()
    secret = Refreshable()
    fresh = Candidate(Credential("a", OPENAI, secret), "m1")
    on = route(fresh, B)
    stage.suspend(fresh, 5)
    stage.clock.now += 5
    exchange, step = stage.open(on)
    assert step == Attempt(1, fresh)
    assert isinstance(exchange.judge(reply(Label.CREDENTIAL_REJECTED), stage.now), Wait)
    assert exchange.resume(stage.now) == Attempt(2, fresh, repeat=True, refresh=True)
    assert stage.open(on)[1] == Attempt(1, B)
    exchange.cancelled()
    assert stage.open(on)[1] == Attempt(1, fresh)


def test_what_a_failure_comes_to_is_that_of_its_own_step() -> None:
    """F14, F17: a refused probe climbs; an early probe that fails for another reason is no refusal."""
    stage = Stage()
    half_open(stage)
    exchange, _ = stage.open(ON)
    exchange.judge(REFUSAL, stage.now)
    told = exchange.outcomes[0].suspension
    assert told is not None and told.until == stage.now + LONG
    early_stage = Stage()
    for each in (A, B):
        early_stage.suspend(each, 600, label=Label.MODEL_UNSUPPORTED)
    early, step = early_stage.open(ON)
    assert isinstance(step, Attempt) and step.early
    quota = reply(Label.QUOTA_EXHAUSTED, then=Then(scope=Scope.CANDIDATE))
    early.judge(quota, early_stage.now)
    told = early.outcomes[0].suspension
    assert told is not None and told.until == early_stage.now + 3600
