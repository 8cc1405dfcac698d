"""Who can still be asked in one exchange."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tests.support.decisions import OTHER, Stage, candidate, reply, route
from tests.suspensions.test_cache import Others
from understudy.failover.candidates import Chooser
from understudy.failover.default_actions import DEFAULTS, Default, Next
from understudy.failover.steps import Attempt, Outcome, Request
from understudy.limits import MOST_OUTPUT
from understudy.model import Candidate, Choice, Label, Route, Scope, Strategy, Verdict, key_of
from understudy.suspensions.cache import EARLY_PROBE

A, A2, B, C = candidate("a"), candidate("a", "m2"), candidate("b"), candidate("c", at=OTHER)
OK = reply(Label.OK)
BLOCKED = {"other": "no"}


def chooser(
    stage: Stage, *members: Candidate, generating: bool = True, on: Route | None = None, **facts: Any
) -> Chooser:
    """Nobody was asked yet."""
    request = Request("gpt-5", generating, False, facts.pop("blocked", {}), **facts)
    return Chooser(request, stage.lineup(on or route(*members)), stage.selector, stage.sessions)


def outcome(who: Candidate, label: Label) -> Outcome:
    return Outcome(Attempt(1, who), Verdict(label), 503, None, 0)


def test_law_2_who_was_asked_twice_is_asked_no_more() -> None:
    """Law 2: whatever comes back; who was asked once is not asked again without a wait."""
    stage = Stage()
    left = chooser(stage, A, B)
    assert not left.was_repeated(A)
    assert left.send(A) is False
    assert (left.choose(), left.was_repeated(A)) == (B, False)
    assert left.choose(anew=True) == A
    assert left.send(A) is True
    assert left.was_repeated(A)
    assert left.choose(anew=True) == B
    left.start_anew()
    assert left.choose(anew=True) == B
    left.exclude_all()
    assert left.choose(anew=True) is None and left.choose() is None


def test_whose_place_is_another_ones_is_counted_among_those_that_are_left() -> None:
    """A repeat leaves an attempt for each that is free and was not tried."""
    stage = Stage()
    left = chooser(stage, A, A2, B, C, blocked=BLOCKED)
    assert left.untried_besides(A) == 2
    assert left.has_other_than(A)
    stage.suspend(A2)
    left.send(B)
    assert left.untried_besides(A) == 0
    assert not left.has_other_than(A)
    assert left.has_other_than(B)


@pytest.mark.parametrize(
    ("members", "facts", "several"),
    [
        ((A, A2), {}, False),
        ((A, B), {}, True),
        ((A, C), {"blocked": BLOCKED}, False),
        ((A, B, C), {"blocked": BLOCKED}, True),
        ((A, B), {"barred": {"b": "no"}}, False),
        ((A, A2, B), {"bound_to": "a"}, False),
    ],
)
def test_how_many_credentials_can_be_asked(members: tuple[Candidate, ...], facts: Any, several: bool) -> None:
    """J04: of one alone it is not open whether the request is at fault."""
    assert chooser(Stage(), *members, **facts).has_several_credentials() is several


def test_law_6_the_only_candidate_there_is() -> None:
    """Law 6: of a route, or of those that a request is bound to; not the only one that is left on one connection."""
    assert chooser(Stage(), A).only == A
    assert chooser(Stage(), A, B, bound_to="b").only == B
    assert chooser(Stage(), A, A2, B, bound_to="a").only is None
    assert chooser(Stage(), A, C, blocked=BLOCKED).only is None
    assert chooser(Stage(), C, blocked=BLOCKED).only is None


def test_law_6_an_only_candidate_is_kept_out_by_nothing_but_a_stated_window() -> None:
    stage = Stage()
    left = chooser(stage, A)
    stage.suspend(A, 60)
    assert (left.choose(), left.is_free(A, 0)) == (A, True)
    stage.suspend(A, 60, scope=Scope.CREDENTIAL, label=Label.RATE_LIMITED, hint="retry-after")
    assert (left.choose(), left.is_free(A, 0)) == (None, False)
    assert left.due(stage.now, stage.now + 60, lambda _: False) == stage.now + 60
    left.send(A)
    assert left.due(stage.now, stage.now + 60, lambda _: False) is None, "its own error is what the tool should see"
    assert (left.in_doubt(), left.early_probe(), left.withheld(), left.witness(A)) == (None, None, None, None)


def test_f14_whoever_is_being_probed_is_not_free_for_others() -> None:
    stage = Stage()
    stage.suspend(A, 5)
    stage.clock.now += 5
    stage.suspensions.expire()
    ticket = stage.suspensions.ticket()
    stage.suspensions.begin_probe(A, ticket)
    left = chooser(stage, A, B)
    assert left.is_free(A, ticket) and not left.is_free(A, ticket + 1)
    assert chooser(stage, A).is_free(A, ticket + 1), "an only one is always sent"
    left.send(B)
    left.begin_wait()
    assert left.due(stage.now, stage.now + 10, lambda _: False) == stage.now + 10


def test_w01_when_the_first_comes_back_that_is_worth_waiting_for() -> None:
    """W01, W02: of those that may be asked, by the limit; not for the end of what is hopeless."""
    stage = Stage()
    for who, seconds in ((A, 20), (B, 10), (C, 5)):
        stage.suspend(who, seconds)
    left = chooser(stage, A, B, C, blocked=BLOCKED)
    now = stage.now

    def due(limit: float, hopeless: tuple[Candidate, ...] = ()) -> float | None:
        keys = [key_of(each, Scope.CANDIDATE) for each in hopeless]
        return left.due(now, now + limit, lambda suspension: suspension.key in keys)

    assert due(10) == now + 10
    assert due(9.9) is None
    assert due(30, (B,)) == now + 20
    assert due(30, (A, B)) is None
    stage.suspensions.resume(key_of(A, Scope.CANDIDATE))
    assert due(30) == now + 10


@pytest.mark.parametrize(
    ("witnesses", "expected"),
    [((A2, B, C), C), ((A2, B), B), ((A2,), None), ((B, C), C), ((C,), C)],
)
def test_j01_who_gives_a_second_opinion(witnesses: tuple[Candidate, ...], expected: Candidate | None) -> None:
    """J01: another credential, at another upstream if one is free; nobody who was tried or is out."""
    stage = Stage()
    left = chooser(stage, A, *witnesses)
    left.send(A)
    assert left.witness(A) == expected
    assert chooser(stage, A, *witnesses, bound_to="a").witness(A) is None
    for each in witnesses:
        left.send(each)
    assert left.witness(A) is None


def test_a08_who_could_be_asked_first_at_the_same_upstream() -> None:
    """A08: another credential, that is free and was not tried."""
    stage = Stage()
    left = chooser(stage, A, A2, B, C)
    assert left.has_other_credential(A) and not left.has_other_credential(C)
    left.send(B)
    assert not left.has_other_credential(A)
    assert left.has_other_credential(B)


@pytest.mark.parametrize("hope", [0, 1, 2, 3])
def test_what_time_cures_may_come_back_after_a_wait(hope: int) -> None:
    """W01: what it spoke for as well; the rest is out for this call."""
    stage = Stage()
    left = chooser(stage, A, A2, B)
    left.send(A)
    left.exclude(A, Default(Next.ANYONE, Scope.CREDENTIAL, hope=hope), [])
    assert left.choose() == B
    left.send(B)
    assert left.choose() is None
    back = left.choose(anew=True)
    assert back == (A if hope >= 2 else B)


def test_f10_a_model_that_cannot_do_it_is_asked_nowhere_at_its_upstream() -> None:
    stage = Stage()
    left = chooser(stage, A, B, A2)
    left.send(A)
    left.exclude(A, DEFAULTS[Label.CONTEXT_EXCEEDED], [])
    assert left.choose() == A2
    other = chooser(stage, A, B, A2)
    other.send(A)
    other.exclude(A, DEFAULTS[Label.OVERLOADED], [])
    assert other.choose() == B


def test_l08_where_two_of_an_upstream_are_overloaded_the_others_there_are_asked_last() -> None:
    """L08: two candidates, whatever they were asked; and those that are asked last are asked all the same."""
    stage = Stage()
    third = candidate("d")
    left = chooser(stage, A, B, third, C)
    outcomes = [outcome(A, Label.OVERLOADED)]
    left.send(A)
    left.exclude(A, DEFAULTS[Label.OVERLOADED], [*outcomes, *outcomes])
    assert left.choose() == B, "twice the same is one"
    left.send(B)
    left.exclude(B, DEFAULTS[Label.OVERLOADED], [*outcomes, outcome(B, Label.OVERLOADED), outcome(C, Label.UNKNOWN)])
    assert left.choose() == C
    left.send(C)
    assert left.choose() == third
    mixed = chooser(stage, A, B, third, C)
    mixed.send(A)
    mixed.send(B)
    mixed.exclude(B, DEFAULTS[Label.OVERLOADED], [outcome(C, Label.OVERLOADED), outcome(B, Label.OVERLOADED)])
    assert mixed.choose() == third, "one of each upstream is no upstream"


def test_q02_a_full_queue_is_passed_by_until_nobody_else_is_left() -> None:
    """Q02: with all that its credential serves; and a wait asks it no more than the others."""
    stage = Stage()
    left = chooser(stage, A, A2, B)
    left.is_full(A)
    assert left.choose() == B and left.choose(anew=True) == B
    assert left.full_ones() == [A, A2]
    left.send(A)
    assert left.full_ones() == [A2]
    stage.suspend(A2)
    assert left.full_ones() == []


def test_a_wait_is_for_those_that_are_out_and_not_for_who_was_tried_and_is_free() -> None:
    """W01."""
    stage = Stage()
    stage.suspend(B, 5)
    left = chooser(stage, A, B)
    left.send(A)
    left.begin_wait()
    assert not left.has_come_back(None)
    assert left.has_come_back(A), "asked for by name it is there"
    stage.suspensions.resume(key_of(B, Scope.CANDIDATE))
    assert left.has_come_back(None) and left.has_come_back(B)
    assert left.choose(anew=True) == B


def test_f17_one_of_those_that_all_refuse_the_model_is_asked_early() -> None:
    """F17: each once in 30 s, none that may not be asked; not where one is out for another reason as well."""
    stage = Stage()
    for each in (A, B):
        stage.suspend(each, 600, label=Label.MODEL_UNSUPPORTED)
    assert chooser(stage, A, B).all_refuse()
    assert chooser(stage, A, B, generating=False).early_probe() is None
    assert [chooser(stage, A, B).early_probe() for _ in range(3)] == [A, B, None]
    stage.clock.now += EARLY_PROBE
    barred = chooser(stage, A, B, barred={"a": "no"})
    assert [barred.early_probe() for _ in range(2)] == [B, None]
    assert not chooser(stage, A, B, barred={"a": "no", "b": "no"}).all_refuse()
    assert not chooser(stage, A, B, C).all_refuse()
    stage.suspend(B, 60, scope=Scope.CREDENTIAL)
    assert not chooser(stage, A, B).all_refuse()
    assert chooser(stage, A, B).early_probe() is None


def test_f17_nobody_is_asked_early_while_its_upstream_is_being_probed() -> None:
    stage = Stage()
    for each in (A, B):
        stage.suspend(each, 600, label=Label.MODEL_UNSUPPORTED)
    stage.suspend(A, 5, scope=Scope.CREDENTIAL)
    stage.clock.now += 5
    stage.suspensions.expire()
    stage.suspensions.begin_probe(A, stage.suspensions.ticket())
    assert chooser(stage, A, B).early_probe() == B


@pytest.mark.parametrize(
    ("label", "generating", "asked"),
    [
        (Label.QUOTA_EXHAUSTED, True, [A, A, A]),
        (Label.QUOTA_EXHAUSTED, False, [A, A, A]),
        (Label.RATE_LIMITED, True, [A, B, None]),
        (Label.MODEL_UNSUPPORTED, True, [A, B, None]),
        (Label.MODEL_UNSUPPORTED, False, [None, None, None]),
    ],
)
def test_j04_what_is_only_in_doubt_is_asked(label: Label, generating: bool, asked: list[Candidate | None]) -> None:
    """J04: at once, or each once in 30 s where it may be a limit, an overload or a refused model."""
    stage = Stage()
    imposed = [stage.suspend(each, 30, label=label) for each in (A, B)]
    assert chooser(stage, A, B).in_doubt() is None
    stage.suspensions.put_in_doubt(each for each in imposed if each is not None)
    assert [chooser(stage, A, B, generating=generating).in_doubt() for _ in range(3)] == asked
    tried = chooser(stage, A, B)
    tried.send(A)
    stage.clock.now += 29
    if label is Label.QUOTA_EXHAUSTED:
        assert tried.in_doubt() == B


def test_j04_a_refused_model_is_asked_for_only_where_all_refuse_it() -> None:
    """J04, F17: one that is out for something else can be waited for."""
    stage = Stage()
    imposed = [stage.suspend(each, 30, label=Label.MODEL_UNSUPPORTED) for each in (A, B)]
    stage.suspensions.put_in_doubt(each for each in imposed if each is not None)
    stage.suspend(C, 30)
    assert chooser(stage, A, B, C).in_doubt() is None
    assert chooser(stage, A, B).in_doubt() == A


def test_m03_whose_probe_may_be_another_processs() -> None:
    """M03: only where nothing else keeps it out, and a call generates."""
    stage = Stage()
    stage.suspensions.peers = Others(grants=False)
    for each in (A, B):
        stage.suspend(each, 5)
    stage.suspend(A, 50, scope=Scope.CREDENTIAL)
    stage.clock.now += 5
    stage.suspensions.expire()
    assert chooser(stage, A, B).withheld() == B
    assert chooser(stage, A, B, generating=False).withheld() is None
    assert chooser(stage, A, B, barred={"b": "no"}).withheld() is None
    tried = chooser(stage, A, B)
    tried.send(B)
    assert tried.withheld() is None
    assert chooser(stage, A, C).withheld() is None


def test_when_everybody_is_out_until_a_time_that_was_stated() -> None:
    """The first of them; nothing while anybody is out for another reason, by hand, or not at all."""
    stage = Stage()
    for who, seconds in ((A, 900), (B, 300)):
        stage.suspend(who, seconds, label=Label.QUOTA_EXHAUSTED, hint="retry-after")
    assert chooser(stage, A, B).known_reset() == (stage.now + 300, B)
    assert chooser(stage, A, B, C, blocked=BLOCKED).known_reset() == (stage.now + 300, B)
    assert chooser(stage, A, B, C).known_reset() is None
    stage.suspend(C, 300)
    assert chooser(stage, A, B, C).known_reset() is None
    assert chooser(stage, C, blocked=BLOCKED).known_reset() is None
    tried = chooser(stage, A, B)
    tried.exclude_all()
    assert tried.known_reset() == (stage.now + 300, B)


@pytest.mark.parametrize(("seconds", "waits"), [(3.0, True), (3.1, False), (0.5, True)])
def test_l13_a_session_waits_a_moment(seconds: float, waits: bool) -> None:
    """L13: for a limit that its candidate stated, as long as the patience of the route."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [OK], session="s")
    stage.suspend(A, seconds, label=Label.RATE_LIMITED, hint="retry-after")

    def told(found: tuple[Candidate, float] | None) -> tuple[Candidate, float] | None:
        return found and (found[0], round(found[1], 3))

    found = chooser(stage, on=on, session="s").seat_back_in(stage.now, 3.0)
    assert told(found) == ((A, seconds) if waits else None)
    assert chooser(stage, on=on, session="s", barred={"a": "no"}).seat_back_in(stage.now, 3.0) is None
    assert chooser(stage, on=on).seat_back_in(stage.now, 3.0) is None
    home = chooser(stage, on=on, session="s", prefers="b")
    assert home.seat_back_in(stage.now, 3.0) is None, "its sealed parts are at B, which is free"
    stage.suspend(B, seconds, label=Label.RATE_LIMITED, hint="retry-after")
    assert told(home.seat_back_in(stage.now, 3.0)) == ((B, seconds) if waits else None)


def test_p02_only_an_answer_to_a_call_that_generates_takes_a_seat() -> None:
    stage = Stage()
    on = route(A, B)
    chooser(stage, on=on, session="s", generating=False).take_seat(B)
    assert chooser(stage, on=on, session="s").seat() is None
    chooser(stage, on=on, session="s").take_seat(B)
    assert chooser(stage, on=on, session="s").seat() == B
    assert chooser(stage, on=on, session="s").serves_session(B)
    assert not chooser(stage, on=on, session="s").serves_session(A)
    assert chooser(stage, on=on, session="s").choose() == B


def test_q01_a_body_is_looked_into_only_where_it_could_be_too_much() -> None:
    """Q01: and once; a call without a known body needs nothing."""
    looked: list[int] = []

    def body() -> bytes:
        looked.append(1)
        return b"word " * 400_000

    left = chooser(Stage(), A, B, asked=body)
    assert left.need(3_000_000).input == 0.0
    assert left.need(1_000.0).input == 500_000.0
    assert left.need(1_000.0).input == 500_000.0
    assert len(looked) == 2
    assert chooser(Stage(), A, B).need(1.0).input == 0.0
    small = chooser(Stage(), A, B, asked=lambda: b"word " * 40)
    assert small.need(MOST_OUTPUT - 1.0).input == 50.0


def test_q01_a_seat_with_little_left_gives_way_to_an_equal_with_room_only() -> None:
    """Q01: of the same priority, free, and with more than the reserve; else the session stays."""
    headers = ("anthropic-ratelimit-unified-5h-utilization", "anthropic-ratelimit-unified-5h-reset")

    def used(stage: Stage, who: Candidate, share: str) -> None:
        told = zip(headers, (share, str(int(stage.now + 7200))), strict=True)
        stage.suspensions.limits.hear(who, told, 0.0)

    def asked(stage: Stage, on: Route) -> Candidate | None:
        return chooser(stage, on=on, session="s").choose()

    later = (Choice(A.credential, A.model), Choice(B.credential, B.model, priority=2))
    for on, other in ((route(A, B), B), (replace(route(A, B), choices=later), A), (route(A), A)):
        stage = Stage()
        stage.answer(on, [OK], session="s")
        used(stage, A, "0.99")
        assert asked(stage, on) == other
    stage = Stage()
    on = route(A, B, C, strategy=Strategy.ROUND_ROBIN)
    stage.answer(on, [OK], session="s")
    used(stage, A, "0.99")
    used(stage, B, "0.99")
    assert asked(stage, on) == C
    stage.suspend(C)
    assert asked(stage, on) == A
    used(stage, A, "0.5")
    assert asked(stage, on) == A
    assert math.isinf(stage.suspensions.limits.lost_at(C))


def test_j04_an_only_candidate_in_doubt_keeps_to_its_window() -> None:
    """Law 6, J04: others are asked at once, and there are none."""
    stage = Stage()
    held = stage.suspend(A, 30, label=Label.QUOTA_EXHAUSTED, hint="retry-after")
    assert held is not None
    stage.suspensions.put_in_doubt([held])
    assert chooser(stage, A).in_doubt() is None
    assert chooser(stage, A, B).in_doubt() == A
