"""Sessions, things that only one account knows, and the tool's own retries."""

from __future__ import annotations

import pytest

from tests.support.decisions import OTHER, Clock, Stage, candidate, reply, route
from understudy.failover import affinity
from understudy.failover.affinity import COUNTED_RETRY_SECONDS, RETRY_SECONDS, Rounds, Sessions, Spent
from understudy.failover.steps import Attempt, Refuse, Wait
from understudy.model.pool import Affinity, Budget, Route, Strategy
from understudy.model.suspension import key_of
from understudy.model.verdict import Label, Scope, Then

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)
OK = reply(Label.OK)
BUSY = reply(Label.OVERLOADED, then=Then(retry_same=0))


# -- P02: sessions -----------------------------------------------------------------------------------------------


def test_p02_a_session_moves_once_and_does_not_flap_back() -> None:
    """P02: healthy: it stays; not healthy: it moves; A is back: the session stays with B, others go to A."""
    stage = Stage()
    on = route(A, B)
    assert stage.answer(on, [OK], session="s").sent == [A]
    assert stage.answer(on, [BUSY, OK], session="s").sent == [A, B]
    stage.clock.now += 60
    assert [stage.answer(on, [OK], session="s").sent for _ in range(3)] == [[B]] * 3
    assert stage.answer(on, [OK], session="other").sent == [A]
    assert stage.answer(on, [OK]).sent == [A]


def test_p02_a_session_holds_its_place_in_a_round_robin() -> None:
    """P02: the turns go on for the others, from where they are."""
    stage = Stage()
    on = route(A, B, C, strategy=Strategy.ROUND_ROBIN)
    assert stage.answer(on, [OK], session="s").sent == [A]
    assert [stage.answer(on, [OK], session="s").sent[0] for _ in range(4)] == [A] * 4
    assert [stage.answer(on, [OK]).sent[0] for _ in range(3)] == [B, C, A]


def test_p02_sessions_are_told_apart_by_alias_too() -> None:
    """The title model of a tool has its own candidates: one moving does not move the other."""
    stage = Stage()
    on = Route("*", route(A, B).choices)
    stage.answer(on, [BUSY, OK], "big", session="s")
    assert stage.answer(on, [OK], "small", session="s").sent[0].credential.name == "b"  # the same upstream model
    plain = route(A, B, pattern="other")
    stage.clock.now += 60
    assert stage.answer(plain, [OK], "other", session="s").sent == [A]


def test_p02_only_an_answer_takes_a_seat() -> None:
    """An error, and a token count, say nothing about where the prompt cache is."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [reply(Label.REQUEST_INVALID)], session="s")
    stage.answer(on, [OK], session="s", generating=False)
    lineup = stage.lineup(on)
    assert stage.sessions.seat(lineup, "s") is None
    stage.answer(on, [OK], session="s")
    assert stage.sessions.seat(lineup, "s") == A
    assert stage.sessions.seat(lineup, "") is None


def test_p02_a_count_goes_where_the_session_is() -> None:
    """X04: the count goes to the candidate that generate would use, and for a session that is its own."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [BUSY, OK], session="s")
    stage.clock.now += 60
    assert stage.answer(on, [OK], session="s", generating=False).sent == [B]


def test_p02_a_route_can_do_without() -> None:
    stage = Stage()
    on = Route("gpt-5", route(A, B).choices, affinity=Affinity.NONE)
    stage.answer(on, [BUSY, OK], session="s")
    stage.clock.now += 60
    assert stage.answer(on, [OK], session="s").sent == [A]


def test_p02_a_session_is_forgotten_after_its_time() -> None:
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [BUSY, OK], session="s")
    stage.clock.now += 3601
    assert stage.answer(on, [OK], session="s").sent == [A]


def test_sessions_are_bounded_and_the_one_that_was_answered_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(affinity, "SESSIONS", 2)
    clock, lineup = Clock(), Stage().lineup(route(A, B))
    sessions = Sessions(clock, 10.0)

    def seats() -> list[object]:
        return [sessions.seat(lineup, name) for name in "stu"]

    for name in "sts":
        sessions.take_seat(lineup, name, A)
        clock.now += 1
    sessions.take_seat(lineup, "u", B)
    assert seats() == [A, None, B]
    clock.now += 8
    assert seats() == [A, None, B]
    clock.now += 1
    assert seats() == [None, None, B]
    sessions.take_seat(lineup, "t", A)
    assert seats() == [None, A, B], "what was forgotten makes room before what was not"


def test_a_session_waits_a_moment_rather_than_lose_its_cache() -> None:
    """L13, P02: another request of the session met a limit of 2 s: this one waits it out as well, and does not move."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [OK], session="s")
    first, _ = stage.open(on, session="s")
    assert isinstance(first.judge(reply(Label.RATE_LIMITED, retry_after="2"), stage.now), Wait)
    stage.clock.now += 0.5
    second, step = stage.open(on, session="s")
    assert step == Wait(1.5, "a m1 is back in a moment, and the session stays on it to keep its prompt cache")
    stage.clock.now += 1.5
    assert first.resume(stage.now) == Attempt(2, A, repeat=True)
    first.judge(OK, stage.now)
    first.succeeded()
    assert second.resume(stage.now) == Attempt(1, A)


@pytest.mark.parametrize(("hint", "label"), [("4", Label.RATE_LIMITED), ("", Label.OVERLOADED)])
def test_a_session_does_not_wait_for_more_than_a_moment(hint: str, label: Label) -> None:
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [OK], session="s")
    stage.answer(on, [reply(label, retry_after=hint, then=Then(retry_same=0)), OK])
    assert stage.open(on, session="s")[1] == Attempt(1, B)


# -- P04: what only one account knows ----------------------------------------------------------------------------


def test_p04_a_bound_request_stays_with_its_credential() -> None:
    """P04: it gets that account's own error and is not sent elsewhere."""
    stage = Stage()
    on = route(A, B, C)
    assert stage.answer(on, [OK], bound_to="b").sent == [B]
    played = stage.answer(on, [BUSY], bound_to="b")
    assert (played.sent, played.released) == ([B], 1)
    assert stage.answer(on, [OK], bound_to="b").sent == [B]  # an only candidate is always sent


def test_p04_it_may_wait_for_a_stated_window() -> None:
    """P04: the account named a time: the request waits, or is told why nobody else was asked."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [reply(Label.RATE_LIMITED, retry_after="20"), OK])
    played = stage.answer(on, [OK], bound_to="a")
    assert (played.sent, played.waits) == ([A], [20.0])
    stage.answer(on, [reply(Label.QUOTA_EXHAUSTED, retry_after="500"), OK])
    refused = stage.answer(on, [], bound_to="a").refused
    assert refused.status == 400
    assert "- b m1: not asked: only a knows what this request refers to" in refused.message


def test_p04_all_models_of_the_credential_may_serve() -> None:
    stage = Stage()
    one, two = candidate("a", "m1"), candidate("a", "m2")
    on = route(one, two, B)
    assert stage.answer(on, [BUSY, OK], bound_to="a").sent == [one, two]


# -- W04: the tool's own retries ---------------------------------------------------------------------------------


def test_w04_rounds_of_one_request_share_a_budget() -> None:
    """W04: the second round has what the first has left, and never less than one attempt."""
    stage = Stage()
    on = route(A, B, C, budget=Budget(attempts=4, wait=0))
    first = stage.answer(on, [BUSY, BUSY, BUSY]).exchange
    assert first.spent == Spent(3, 0.0)
    stage.clock.now += 60
    second = stage.answer(on, [BUSY], spent=first.spent).exchange
    assert second.spent == Spent(4, 0.0)
    stage.clock.now += 60
    third = stage.answer(on, [BUSY], spent=second.spent).exchange
    assert third.spent == Spent(5, 0.0)


def test_w04_waits_of_several_rounds_are_one_wait() -> None:
    """W04: a round that has waited 20 of 30 s leaves 10."""
    stage = Stage()
    on = route(A, B)
    for each in (A, B):
        stage.suspend(each, 20)
    first, step = stage.open(on)
    assert isinstance(step, Wait)
    stage.clock.now += 20
    first.resume(stage.now)
    assert first.spent == Spent(1, 20.0)
    for each in (A, B):
        stage.suspensions.resume(key_of(each, Scope.CANDIDATE))
        stage.suspend(each, 11)
    assert isinstance(stage.open(on, spent=first.spent)[1], Refuse)
    assert isinstance(stage.open(on)[1], Wait)


def test_a_retry_is_known_by_its_body_for_a_while_and_by_its_count_for_longer() -> None:
    clock = Clock()
    rounds = Rounds(clock)
    assert not rounds
    rounds.failed(b"one", Spent(3, 1.0))
    assert rounds
    assert rounds.spent(b"one", counted=False) == Spent(3, 1.0)
    assert rounds.spent(b"two", counted=True) == Spent()
    clock.now += RETRY_SECONDS
    assert rounds.spent(b"one", counted=False) == Spent(3, 1.0)
    clock.now += 1
    assert rounds.spent(b"one", counted=False) == Spent()
    assert rounds.spent(b"one", counted=True) == Spent(3, 1.0)
    clock.now += COUNTED_RETRY_SECONDS
    assert rounds.spent(b"one", counted=True) == Spent()


def test_an_answered_request_is_a_new_one_when_it_comes_again() -> None:
    rounds = Rounds(Clock())
    rounds.failed(b"one", Spent(3, 0.0))
    rounds.answered(b"one")
    assert rounds.spent(b"one", counted=True) == Spent()


def test_whether_a_round_may_be_known_is_told_by_the_size_of_its_body() -> None:
    """H02: so the fingerprint of a large body is only made where a body of this size has failed lately."""
    clock = Clock()
    rounds = Rounds(clock)
    for name, size in ((b"one", 10), (b"two", 10), (b"three", 7)):
        rounds.failed(name, Spent(1, 0.0), size=size)
    assert [rounds.may_know(size) for size in (10, 7, 8)] == [True, True, False]
    rounds.answered(b"one")
    rounds.answered(b"three")
    rounds.answered(b"unknown")
    assert [rounds.may_know(size) for size in (10, 7)] == [True, False]
    clock.now += COUNTED_RETRY_SECONDS + 1
    assert not rounds.may_know(10)


def test_that_no_round_is_known_is_told_without_the_clock() -> None:
    now, readings = 0.0, 0

    def clock() -> float:
        nonlocal readings
        readings += 1
        return now

    rounds = Rounds(clock)
    assert not rounds and readings == 0
    rounds.failed(b"one", Spent(1))
    assert rounds
    now += COUNTED_RETRY_SECONDS + 1
    assert not rounds
    before = readings
    assert not rounds and readings == before, "what has expired was let go of"


def test_sessions_of_no_time_are_none() -> None:
    """`affinity: 0` in the pool file switches them off."""
    stage = Stage()
    sessions = Sessions(stage.clock, 0.0)
    lineup = stage.lineup(route(A, B))
    sessions.take_seat(lineup, "s", B)
    assert sessions.seat(lineup, "s") is None


@pytest.mark.parametrize(
    ("spent", "attempts", "wait"),
    [
        (Spent(), 6, 30.0),
        (Spent(2, 0.0), 4, 30.0),
        (Spent(0, 12.5), 6, 17.5),
        (Spent(6, 30.0), 1, 0.0),
        (Spent(9, 99.0), 1, 0.0),
    ],
)
def test_w04_what_earlier_rounds_leave_of_a_budget(spent: Spent, attempts: int, wait: float) -> None:
    """W04: what they used is taken off, one attempt is always possible, and no wait is negative."""
    left = spent.left_of(Budget(attempts=6, wait=30.0))
    assert (left.attempts, left.wait) == (attempts, wait)


def test_p02_a_route_that_does_without_from_now_on_has_no_seats() -> None:
    """P02: after a reload; what was remembered before does not count."""
    stage = Stage()
    on = route(A, B)
    stage.answer(on, [BUSY, OK], session="s")
    stage.clock.now += 60
    without = Route(on.pattern, on.choices, affinity=Affinity.NONE)
    assert stage.sessions.seat(stage.lineup(without), "s") is None
    assert stage.answer(without, [OK], session="s").sent == [A]
    assert stage.sessions.seat(stage.lineup(on), "s") == B


def test_p02_a_route_that_did_without_has_remembered_nothing() -> None:
    """P02: after a reload that asks for sessions."""
    stage = Stage()
    on = route(A, B)
    without = Route(on.pattern, on.choices, affinity=Affinity.NONE)
    stage.answer(without, [BUSY, OK], session="s")
    assert stage.sessions.seat(stage.lineup(on), "s") is None
