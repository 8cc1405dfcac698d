"""A drill over the decision core: whose calls it reaches, what stays apart, and what it comes to (H12)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.decisions import OTHER, RULES, Stage, Steady, candidate, fault, reply, route
from understudy.drill.behaviour import read_behaviour
from understudy.drill.drill import MOST_MOVED, MOST_REASONS, Call, Drill, covers, shown_session
from understudy.drill.drill import OTHER as OTHERS
from understudy.failover import DrilledExchange, DrilledLineup, Exchange, Refuse, Release, Request, Selector
from understudy.failover.steps import Attempt, Step, Wait
from understudy.model import Candidate, Key, Label, Route, Scope, key_of, keys_of
from understudy.replies import FaultKind, Reply

A, A2 = candidate("a", "m1"), candidate("a", "m2")
B, C = candidate("b", "m1"), candidate("c", "m1", OTHER)
ON = route(A, B, C)


class Play(Stage):
    """A stage on which a drill runs."""

    def __init__(self, target: Key, written: str = "429", seconds: float = 300.0, **limits: Any) -> None:
        super().__init__()
        self.drill = Drill(target, read_behaviour(written), seconds, self.clock, self.sessions, **limits)
        self.suspensions.begin_drill()
        self.drilled = Selector(self.suspensions, DrilledLineup)

    def call(self, on: Route = ON, *, own: bool = True, session: str = "", streamed: bool = False) -> Exchange:
        """An exchange, of the drill if that takes it."""
        request = Request("gpt-5", True, streamed, {}, session=session)
        real = self.lineup(on)
        plain = Exchange(request, real, self.selector, RULES, self.now, Steady(), self.sessions)
        call = self.drill.takes(real, session, own=own, instead=plain.first_choice())
        if call is None:
            return plain
        lineup = self.drilled.lineup_like(real)
        return DrilledExchange(request, lineup, self.drilled, RULES, self.now, Steady(), self.drill.seats, None, call)

    def end(self) -> None:
        """The drill is over."""
        self.drill.end()
        self.suspensions.end_drill()

    def play(self, exchange: Exchange, said: dict[Candidate, Reply], status: int = 200) -> list[tuple[Candidate, bool]]:
        """Play an exchange to its end; what is not in ``said`` answers well. Returns who was asked, and if struck."""
        asked: list[tuple[Candidate, bool]] = []
        step: Step = exchange.begin(self.now)
        while True:
            match step:
                case Attempt():
                    asked.append((step.candidate, step.drilled))
                    step = exchange.judge(said.get(step.candidate, reply(Label.OK)), self.now)
                case Wait():
                    self.clock.now += step.seconds
                    step = exchange.resume(self.now)
                case Release() | Refuse():
                    exchange.succeeded()
                    if isinstance(exchange.drill, Call):
                        exchange.drill.over(exchange, status)
                        exchange.drill.over(exchange, status)
                    return asked


LIMITED = reply(Label.RATE_LIMITED, retry_after="60")


@pytest.mark.parametrize("scope", Scope)
def test_a_target_covers_a_candidate_in_each_scope(scope: Scope) -> None:
    assert covers(key_of(A, scope), A)
    assert covers(key_of(A, scope), A2) is (scope is not Scope.CANDIDATE)
    assert covers(key_of(A, scope), B) is (scope is Scope.UPSTREAM)
    assert not covers(key_of(A, scope), C)


def test_h12_only_its_calls_skip_what_it_has_suspended() -> None:
    """H12: a call of the drill skips the target; another call, and the suspensions of before, know nothing of it."""
    play = Play(key_of(A, Scope.CANDIDATE), share=0.5)
    assert play.call().drill is None
    assert play.play(play.call(), {A: LIMITED}) == [(A, True), (B, False)]
    assert play.suspended() == {Key(Scope.CANDIDATE, "a", "m1", drill=True): 60.0}
    assert play.play(play.call(), {}) == [(A, False)]
    assert play.play(play.call(), {}) == [(B, False)]
    play.end()
    assert play.suspended() == {}
    assert play.play(play.call(), {}) == [(A, False)]


def test_h12_a_real_suspension_stays_as_it_was() -> None:
    """H12, F15: neither lengthened nor confirmed nor cleared by a drill; it keeps the drill's calls out as well."""
    play = Play(key_of(A, Scope.CANDIDATE))
    before = play.suspend(B, 40.0, label=Label.RATE_LIMITED)
    assert play.play(play.call(), {A: LIMITED}) == [(A, True), (C, False)]
    play.end()
    assert list(play.suspensions) == [before]


def test_h12_what_a_call_of_the_drill_learns_of_others_is_real() -> None:
    """H12: the second candidate's own limit stays when the drill is over."""
    play = Play(key_of(A, Scope.CREDENTIAL))
    play.play(play.call(), {A: LIMITED, B: LIMITED})
    play.end()
    assert list(play.suspended()) == [key_of(B, Scope.CANDIDATE)]


def test_h12_no_ladder_no_lesson_no_latency_no_width_is_left() -> None:
    """H12, J01, J05: steps start at the first one in the drill, and are gone; a comparison teaches nothing."""
    play = Play(key_of(A, Scope.CANDIDATE), "empty")
    refused = reply(Label.MODEL_UNSUPPORTED)
    play.play(play.call(), {A: refused})
    [held] = play.suspensions
    play.clock.now += held.until - play.now + 1
    play.drill.until = play.now + 60
    play.play(play.call(), {A: refused})
    assert [each.step for each in play.suspensions] == [1]
    odd = reply(Label.UNKNOWN, certain=False, message="odd seat")
    play.clock.now += 24 * 3600
    play.drill.until = play.now + 60
    assert play.play(play.call(), {A: odd}) == [(A, True), (C, False)]
    assert len(play.drill.learned) == 1
    play.clock.now += 40
    exchange = play.call()
    step = exchange.begin(play.now)
    assert isinstance(step, Attempt)
    assert step.candidate == A
    exchange.spoke(A, 3.0)
    exchange.cancelled()
    assert len(play.suspensions.learned) == 0
    assert list(play.suspensions.first_events._times) == []
    play.end()
    assert list(play.suspensions.ladders) == []
    assert play.suspensions.known() == []


def test_h12_a_credential_wide_reply_is_as_wide_as_it_would_be() -> None:
    """H12, J05: what was answered for real speaks against it; what the drill refuses widens it for the drill only."""
    both = route(A, A2, B)
    play = Play(key_of(A, Scope.CREDENTIAL), "quota")
    play.suspensions.answers.answered(("a", 0), "m2", play.now)
    quota = reply(Label.QUOTA_EXHAUSTED)
    play.play(play.call(both), {A: quota, A2: quota})
    scopes = {(each.key.scope, each.key.drill) for each in play.suspensions}
    assert scopes == {(Scope.CANDIDATE, True), (Scope.CREDENTIAL, True)}
    assert play.suspensions.answers.is_whole(("a", 0), "m1", play.now) is False


def test_h12_late_results_of_a_drill_change_nothing() -> None:
    """H12, F16: an attempt that began in the drill fails after its end."""
    play = Play(key_of(A, Scope.CANDIDATE))
    exchange = play.call()
    assert isinstance(exchange.begin(play.now), Attempt)
    play.end()
    exchange.judge(LIMITED, play.now)
    assert play.suspended() == {}


def test_h12_a_probe_that_is_made_up_proves_nothing() -> None:
    """H12, F14, law 3: a made-up attempt takes no real probe, and its success lifts no real suspension."""
    play = Play(key_of(A, Scope.CANDIDATE), "slow")
    play.suspend(A, 10.0, label=Label.MODEL_UNSUPPORTED)
    play.clock.now += 11.0
    exchange = play.call()
    step = exchange.begin(play.now)
    assert isinstance(step, Attempt)
    assert step.drilled
    assert not play.suspensions.is_probed(key_of(A, Scope.CANDIDATE))
    exchange.judge(reply(Label.OK), play.now)
    exchange.succeeded()
    assert play.suspensions.half_open(key_of(A, Scope.CANDIDATE)) is not None


def test_h12_its_own_suspension_is_probed_once() -> None:
    """H12, F14: when it is due, one call of the drill finds out, and the others go on."""
    play = Play(key_of(A, Scope.CANDIDATE))
    play.play(play.call(), {A: reply(Label.MODEL_UNSUPPORTED)})
    [held] = play.suspensions
    play.clock.now += held.until - play.now + 1
    play.drill.until = play.now + 60
    first, second = play.call(), play.call()
    steps = [each.begin(play.now) for each in (first, second)]
    assert [each.candidate for each in steps if isinstance(each, Attempt)] == [A, B]


def test_h12_everybody_refuses_and_all_are_asked_again() -> None:
    """H12, J04, F17: doubts and early probes of the drill's calls go by the drill's suspensions, too."""
    play = Play(Key(Scope.UPSTREAM, "openai"))
    refused = reply(Label.MODEL_UNSUPPORTED)
    on = route(A, B)
    assert len(play.play(play.call(on), {A: refused, B: refused}, 404)) == 2
    asked = play.play(play.call(on), {A: refused, B: refused}, 404)
    assert [each for each, _ in asked][:1] == [A]
    assert all(key.drill for key in play.suspended())


def test_h12_calls_of_others_are_left_alone() -> None:
    """H12, law 12: without `everyone` a call of another user is no call of the drill."""
    play = Play(key_of(A, Scope.CANDIDATE))
    assert play.call(own=False).drill is None
    assert play.call(own=True).drill is not None
    assert Play(key_of(A, Scope.CANDIDATE), everyone=True).call(own=False).drill is not None


def test_h12_a_share_is_exact() -> None:
    """H12: of a hundred calls as many as were said, spread out."""
    play = Play(key_of(A, Scope.CANDIDATE), share=0.3)
    taken = [play.call().drill is not None for _ in range(100)]
    assert sum(taken) == 30
    assert not any(all(taken[at : at + 2]) for at in range(99))


def test_h12_routes_without_the_target_are_no_calls_of_it() -> None:
    """H12: neither counted nor touched."""
    play = Play(key_of(C, Scope.CREDENTIAL))
    assert play.call(route(A, B)).drill is None
    assert play.drill.summary().calls == 0


def test_h12_the_time_is_over() -> None:
    """H12: nothing is struck any more, also in the middle of a call."""
    play = Play(key_of(A, Scope.CANDIDATE), seconds=10.0)
    exchange = play.call()
    play.clock.now += 11.0
    step = exchange.begin(play.now)
    assert isinstance(step, Attempt)
    assert not step.drilled
    assert play.call().drill is None


def test_auxiliary_calls_cannot_be_empty() -> None:
    """H12: what only a stream or an answer can be does not strike a token count; a limit does."""
    for written, expected in (("empty", False), ("cut", False), ("429", True), ("dead", True)):
        play = Play(key_of(A, Scope.CANDIDATE), written)
        call = play.call().drill
        assert call is not None
        assert call.strikes(A, generating=False) is expected


def test_h12_the_sum() -> None:
    """H12: calls, rescued, failed with each reason, hedged, seconds added, extra upstream calls, sessions moved."""
    play = Play(key_of(A, Scope.CANDIDATE))
    play.sessions.take_seat(play.lineup(ON), "mine-0123456789", A)
    play.play(play.call(session="mine-0123456789"), {A: LIMITED})
    play.play(play.call(), {B: LIMITED})  # skips the target, and needs a third
    play.play(play.call(), {B: LIMITED, C: fault(FaultKind.CONNECT)}, 503)
    under_way = play.call()
    under_way.begin(play.now)
    found = play.drill.summary()
    assert (found.calls, found.met, found.rescued, found.under_way, found.open) == (4, 3, 2, 1, 0)
    assert found.failed == {"understudy answered itself with HTTP 503: overloaded": 1}
    assert found.extra == 2  # the third one twice
    assert [(each.session, each.before, each.now) for each in found.moved] == [("mine-012…", "a m1", "b m1")]
    lines = found.lines()
    assert lines[0] == "4 calls, 3 of them met the drill: rescued 2, failed 1, under way 1"
    assert "failed 1: understudy answered itself with HTTP 503: overloaded" in lines[1]
    assert "at the median" in lines[2]
    assert lines[-1] == "  mine-012…: a m1 -> b m1"
    assert Drill(A_KEY, read_behaviour("429"), 1, play.clock, play.sessions).summary().lines()[1] == (
        "hedged 0; no call was answered"
    )


A_KEY = key_of(A, Scope.CANDIDATE)


def test_h12_a_session_that_comes_back_has_not_moved() -> None:
    """H12, P02: and after the drill every session is where it was."""
    play = Play(A_KEY)
    play.sessions.take_seat(play.lineup(ON), "s", A)
    lineup = play.drilled.lineup_like(play.lineup(ON))
    play.drill.seats.take_seat(lineup, "s", B)
    assert list(play.drill.seats.moved) == ["s"]
    play.drill.seats.take_seat(lineup, "s", A)
    assert list(play.drill.seats.moved) == []
    play.drill.seats.take_seat(lineup, "s", C)
    assert play.sessions.seat(play.lineup(ON), "s") == A


def test_all_that_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10, H12: reasons, times and sessions."""
    monkeypatch.setattr("understudy.drill.drill.MOST_TIMES", 3)
    play = Play(A_KEY)
    for _ in range(5):
        play.play(play.call(), {A: LIMITED})
    assert len(play.drill._sum.added) == 3
    for number in range(MOST_REASONS + 5):
        play.play(play.call(route(A)), {A: reply(Label.OVERLOADED, status=500 + number)}, 500 + number)
    assert len(play.drill.summary().failed) <= MOST_REASONS + 1
    assert play.drill.summary().failed[OTHERS] >= 5
    lineup = play.drilled.lineup_like(play.lineup(ON))
    for number in range(MOST_MOVED + 5):
        play.sessions.take_seat(play.lineup(ON), str(number), A)
        play.drill.seats.take_seat(lineup, str(number), B)
    assert len(play.drill.summary().moved) == MOST_MOVED


def test_an_attempt_that_is_not_sent_is_not_counted() -> None:
    play = Play(A_KEY)
    exchange = play.call()
    exchange.begin(play.now)
    assert isinstance(exchange.drill, Call)
    exchange.drill.unsent()
    assert (exchange.drill.struck, exchange.drill.made_up) == (0, 0)


def test_r07_of_a_session_only_the_beginning_is_shown() -> None:
    """R07, law 8: an id may be what lets somebody go on with the conversation."""
    assert shown_session("0123456789abcdef") == "01234567…"
    assert shown_session("short") == "short"
    drill = Play(A_KEY, session="0123456789abcdef", share=0.1, everyone=True).drill
    assert str(drill) == "candidate a m1: 429 (10 % of the calls, session 01234567…, calls of other users too)"


def test_drilled_and_real_lineups_stand_beside_each_other() -> None:
    """Each key of a member blocks it, and only its own lineups."""
    play = Play(A_KEY)
    real, drilled = play.lineup(ON), play.drilled.lineup_like(play.lineup(ON))
    for key in keys_of(A, drill=True):
        drilled.mark(key, True)
        real.mark(key, True)
        assert A in real.members_of(real.available())
        assert A not in drilled.members_of(drilled.available())
        drilled.mark(key, False)
        assert A in drilled.members_of(drilled.available())
    for key in keys_of(A):
        drilled.mark(key, True)
        assert A not in drilled.members_of(drilled.available())
        drilled.mark(key, False)
