"""What is counted, and the time line of the last exchanges."""

from __future__ import annotations

import gc
import logging

import pytest
from mitmproxy.test import tflow

from tests.support.decisions import NOW, OTHER, Stage, candidate, fault, reply, route
from understudy.failover.drilled_exchange import DrilledExchange
from understudy.failover.exchange import Exchange
from understudy.failover.steps import Attempt, Outcome, Release, Request
from understudy.inspection import tallies as module
from understudy.inspection.tallies import (
    MEASURED,
    MOST_EXCHANGES,
    QUIET,
    STEP,
    STEPS,
    UNTRIED,
    CountingJournal,
    Lately,
    Tallies,
    Tally,
)
from understudy.model import Usage
from understudy.model.pool import Budget, Candidate
from understudy.model.verdict import Label
from understudy.proxy.listener import Abandoned, Measured
from understudy.replies import FaultKind
from understudy.suspensions import Answers

A, B = candidate("a"), candidate("b", at=OTHER)
ROUTE = route(A, B)


class Book:
    """Tallies, and exchanges that are told to them as the layer does."""

    def __init__(self) -> None:
        self.stage = Stage()
        self.tallies = Tallies(self.stage.clock)

    def of(self, what: Candidate) -> Tally:
        return self.tallies.of(what.credential.name, what.model)

    def call(self, *labels: Label, alias: str = "gpt-5", generating: bool = True, flow: str = "f") -> Exchange:
        """A call whose attempts come to this, each after a second."""
        exchange, step = self.stage.open(ROUTE, alias, generating=generating)
        for label in labels:
            assert isinstance(step, Attempt)
            self.stage.clock.now += 1
            step = exchange.judge(reply(label), self.stage.now)
            if not isinstance(step, Release):
                self.tallies.tried(flow, exchange)
        if isinstance(step, Release):
            self.tallies.released(flow, exchange, step.attempt)
        return exchange


@pytest.fixture
def book() -> Book:
    """Nothing is counted yet."""
    return Book()


def test_who_answered_and_who_did_not(book: Book) -> None:
    """Counted by candidate, failures by label, with the times of the last ones."""
    book.call(Label.MODEL_UNSUPPORTED, Label.OK)
    book.call(Label.OK)
    assert book.of(A) == Tally(0, {"model_unsupported": 1}, None, NOW + 1)
    assert book.of(B) == Tally(2, {}, NOW + 3, None)
    assert book.tallies.of("a", "another model") == UNTRIED


def test_second_opinions_are_counted(book: Book) -> None:
    """J01: attempts that are made for nothing else, whatever they come to; the time line says which they are."""
    exchange, _ = book.stage.open(ROUTE)
    odd = reply(Label.REQUEST_INVALID, certain=False)
    assert exchange.judge(odd, book.stage.now) == Attempt(2, B, opinion=True)
    book.tallies.tried("f", exchange)
    assert exchange.judge(odd, book.stage.now) == Release(1)
    book.tallies.tried("f", exchange)
    book.tallies.released("f", exchange, 1)
    assert (book.of(A).opinions, book.of(B).opinions) == (0, 1)
    [told] = book.tallies.exchanges()
    assert [(each.opinion, each.compared) for each in told.tried] == [(False, "request"), (True, "")]


def test_e01_moves_are_counted(book: Book) -> None:
    """E01: at the candidate that the conversation came to; the time line says from where, and what was left out."""
    book.stage.ledger.learn(["rs_a0123456789", "sealed a"], "a")
    exchange, _ = book.stage.open(ROUTE, **book.stage.sealed(ROUTE, "rs_a0123456789", "sealed a"))
    exchange.judge(reply(Label.QUOTA_EXHAUSTED, retry_after="60"), book.stage.now)
    exchange.judge(reply(Label.OK), book.stage.now)
    book.tallies.released("f", exchange, 2)
    assert (book.of(A).moves, book.of(B).moves) == (0, 1)
    [told] = book.tallies.exchanges()
    assert [(each.left_out, each.moved_from) for each in told.tried] == [(0, ""), (1, "a")]


@pytest.mark.parametrize("winner", [A, B])
def test_a05_who_was_given_up_for_a_faster_one(book: Book, winner: Candidate) -> None:
    """A05: counted as hedged, told on the time line with what it cost; who won has answered."""
    exchange, _ = book.stage.open(ROUTE, streamed=True)
    book.stage.clock.now += 15
    assert exchange.hedge(A, book.stage.now) == Attempt(2, B)
    book.stage.clock.now += 1
    number = exchange.accept(winner)
    book.tallies.tried("f", exchange)
    book.tallies.released("f", exchange, number)
    loser = A if winner == B else B
    assert (book.of(loser).failed, book.of(loser).answered) == ({"hedged": 1}, 0)
    assert (book.of(winner).failed, book.of(winner).answered) == ({}, 1)
    (told,) = book.tallies.exchanges()
    assert (told.answer, [each.label for each in told.tried]) == (2, ["hedged", "ok"])
    assert told.tried[0].credential == loser.credential.name
    assert told.tried[0].evidence.startswith("given up after ")


def test_the_time_line(book: Book) -> None:
    """The latest first, each attempt with its place, verdict and span; and who answered."""
    book.call(Label.OK, alias="one", flow="f1")
    exchange = book.call(Label.MODEL_UNSUPPORTED, Label.OK, alias="two", flow="f2")
    second, first = book.tallies.exchanges()
    assert (first.flow, first.alias, first.answer, first.released, first.under_way) == ("f1", "one", 1, 1.0, False)
    assert (second.flow, second.alias, second.route, second.dialect) == ("f2", "two", "gpt-5", "openai")
    assert (second.answer, second.released, second.under_way) == (2, 2.0, False)
    assert [(each.number, each.place, each.credential, each.upstream) for each in second.tried] == [
        (1, 1, "a", "openai"),
        (2, 2, "b", "other"),
    ]
    refused, answered = second.tried
    assert (refused.label, refused.rule, refused.status) == ("model_unsupported", "test/model_unsupported", 400)
    assert (refused.evidence, refused.after, refused.seconds) == ("because", 0.0, 1.0)
    assert (answered.label, answered.after, answered.seconds) == ("ok", 1.0, 1.0)
    assert exchange.outcomes[1].attempt.begun == second.time + 1


def test_a_call_that_is_under_way_and_one_whose_tool_went_away(book: Book) -> None:
    """Told at the first failure; that the tool went away is noticed by whoever looks, and is news."""
    exchange, _ = book.stage.open(ROUTE)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), book.stage.now)
    book.tallies.tried("f", exchange)
    (told,) = book.tallies.exchanges()
    assert (told.under_way, told.answer) == (True, None)
    before = book.tallies.state()
    assert book.tallies.state() == before
    exchange.cancelled()
    assert book.tallies.state() != before
    (told,) = book.tallies.exchanges()
    assert (told.under_way, told.answer) == (False, None)


def test_a_wait_is_no_part_of_an_attempt(book: Book) -> None:
    """An attempt lasts until its verdict; the pause before the next one is between them."""
    played = book.stage.answer(ROUTE, [fault(), reply(Label.OK)])
    exchange, step = book.stage.open(route(A, budget=Budget(wait=30)))
    book.stage.clock.now += 1
    step = exchange.judge(reply(Label.RATE_LIMITED, retry_after="2"), book.stage.now)
    book.tallies.tried("f", exchange)
    book.stage.clock.now += 2
    step = exchange.resume(book.stage.now)
    assert isinstance(step, Attempt)
    book.stage.clock.now += 1
    exchange.accept()
    book.tallies.released("f", exchange, 2)
    (told,) = book.tallies.exchanges()
    assert [(each.after, each.seconds, each.again) for each in told.tried] == [(0.0, 1.0, False), (3.0, 1.0, True)]
    assert played.exchange is not exchange


def test_an_answer_of_our_own(book: Book) -> None:
    """0 says that no candidate's reply went out."""
    exchange = book.call(Label.CREDENTIAL_REJECTED)
    book.tallies.released("f", exchange, 0)
    (told,) = book.tallies.exchanges()
    assert told.answer == 0


def test_a_stream_that_broke_off_is_no_answer(book: Book) -> None:
    """S03, S04: released, and counted as what it turned out to be."""
    exchange, _ = book.stage.open(ROUTE, streamed=True)
    exchange.accept()
    book.tallies.released("f", exchange, 1)
    assert book.of(A).answered == 1
    outcome = exchange.failed_after_release(reply(Label.OVERLOADED), book.stage.now)
    assert outcome is not None
    book.tallies.ended_badly("f", exchange, outcome)
    assert (book.of(A).answered, book.of(A).failed) == (0, {"overloaded": 1})
    (told,) = book.tallies.exchanges()
    assert (told.answer, told.ended) == (1, "overloaded")


def test_x01_auxiliary_calls_are_shown_and_not_counted(book: Book) -> None:
    """X01, law 4: a token count says nothing about who can generate."""
    book.call(Label.RATE_LIMITED, Label.OK, generating=False)
    assert (book.of(A), book.of(B)) == (UNTRIED, UNTRIED)
    (told,) = book.tallies.exchanges()
    assert (told.generating, len(told.tried)) == (False, 2)


def test_an_attempt_that_was_never_sent(book: Book) -> None:
    """It is told with the next news, and lasts no time."""
    exchange, _ = book.stage.open(ROUTE)
    exchange.unsendable(Label.REQUEST_INVALID, "builtin/rewrite", "no such place", book.stage.now)
    book.stage.clock.now += 3
    exchange.accept()
    book.tallies.released("f", exchange, 2)
    (told,) = book.tallies.exchanges()
    assert [(each.rule, each.seconds) for each in told.tried] == [("builtin/rewrite", 0.0), ("builtin/output", 3.0)]


def test_everything_is_bounded(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: exchanges, attempts and candidates; tools choose what models are called."""
    monkeypatch.setattr(module, "MOST_CANDIDATES", 3)
    monkeypatch.setattr(module, "MOST_ATTEMPTS", 1)
    book.call(Label.MODEL_UNSUPPORTED, Label.OK)
    (told,) = book.tallies.exchanges()
    assert (len(told.tried), told.more, told.answer) == (1, 1, 2)
    for number in range(MOST_EXCHANGES + 5):
        asked = candidate("a", f"m{number}")
        exchange, _ = book.stage.open(route(asked), f"m{number}")
        exchange.accept()
        book.tallies.released("f", exchange, 1)
        book.call(Label.OK)  # asked all the time, so it is never the one to be forgotten
    assert len(book.tallies.exchanges()) == MOST_EXCHANGES
    assert book.tallies.of("a", "m0") == UNTRIED
    assert book.tallies.of("a", f"m{MOST_EXCHANGES + 4}").answered == 1
    assert book.of(B).answered == MOST_EXCHANGES + 6
    del exchange
    gc.collect()
    assert len(book.tallies._known) == 0


def test_names_of_others_are_fit_for_one_line(book: Book) -> None:
    """An alias may be anything."""
    book.call(Label.OK, alias="x\n\x1b[31m")
    (told,) = book.tallies.exchanges()
    assert told.alias == "x\\n\\x1b[31m"


def test_the_journal_tells_both(book: Book, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """O08: to count never costs a call; what goes wrong is logged without its text."""
    caplog.set_level(logging.INFO, "understudy")
    journal, flow = CountingJournal(book.tallies), tflow.tflow()
    exchange, _ = book.stage.open(ROUTE, streamed=True)
    step = exchange.judge(reply(Label.MODEL_UNSUPPORTED), book.stage.now)
    journal.abandoned(Abandoned(flow, exchange, exchange.outcomes[-1], step))
    exchange.accept()
    journal.released(flow, exchange, 2)
    outcome = exchange.failed_after_release(reply(Label.OVERLOADED), book.stage.now)
    assert outcome is not None
    journal.ended_badly(flow, exchange, outcome)
    (told,) = book.tallies.exchanges()
    assert (told.flow, len(told.tried), told.answer, told.ended) == (flow.id, 2, 2, "overloaded")
    assert flow.comment.startswith("1/2 a m1: model_unsupported")

    def fail(*_: object) -> None:
        raise RuntimeError("sk-secret")

    before, _ = book.tallies.state()
    monkeypatch.setattr(Tallies, "_released", fail)
    journal.released(flow, exchange, 2)
    journal.abandoned(Abandoned(flow, exchange, exchange.outcomes[0], step))
    version, _ = book.tallies.state()
    assert version > before, "what was to be counted behind it is counted"
    assert "an exchange cannot be counted: RuntimeError" in caplog.text
    assert "sk-secret" not in caplog.text


def test_what_happened_is_counted_as_of_then(book: Book) -> None:
    """Counts are made when somebody asks: with the times, and the verdicts, of what happened."""
    exchange, _ = book.stage.open(ROUTE)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), book.stage.now)
    book.tallies.tried("f", exchange)
    book.stage.clock.now += 5.0
    exchange.judge(reply(Label.OK), book.stage.now)
    book.tallies.released("f", exchange, 2)
    book.tallies.measured(exchange, measured(exchange, Usage(7, 3)))
    then = book.stage.now
    book.stage.clock.now += 2 * 86400.0
    assert not book.tallies.usage.today()
    (told,) = book.tallies.exchanges()
    assert told.released == 5.0
    assert [each.seconds for each in told.tried] == [0.0, 5.0]
    assert book.of(B).last_answered == then
    [(day, _, row)] = book.tallies.usage.days()
    assert (day, row.usage) == (book.tallies.usage.day(then), Usage(7, 3))


def test_q05_the_last_hour_of_a_candidate(book: Book) -> None:
    """Q05: answers and failures in steps of five minutes; what is older is not told."""
    step = int(NOW // STEP)
    book.call(Label.MODEL_UNSUPPORTED, Label.OK)
    book.call(Label.OK)
    lately = book.tallies.lately("b", "m1")
    assert lately.since(step) == [[step, 2, 0]]
    assert book.tallies.lately("a", "m1").since(step) == [[step, 0, 1]]
    assert book.tallies.lately("nobody", "m1").since(step) == []
    book.stage.clock.now += STEP
    book.call(Label.OK)
    assert len(book.tallies.lately("b", "m1").since(step + 1)) == 2
    assert [each[0] for each in book.tallies.lately("b", "m1").since(step + STEPS)] == [step + 1]


def test_q03_a_stream_that_ends_badly_is_no_answer_of_the_hour(book: Book) -> None:
    """Q05: it is counted as a failure in its place."""
    exchange = book.call(Label.OK)
    outcome = exchange.failed_after_release(fault(FaultKind.CUT), book.stage.now)
    assert outcome is not None
    book.tallies.ended_badly("f", exchange, outcome)
    [[_, answered, failed]] = book.tallies.lately("a", "m1").since(int(book.stage.now // STEP))
    assert (answered, failed) == (0, 1)


def measured(exchange: Exchange, usage: Usage | None, **more: object) -> Measured:
    """What the released attempt took."""
    return Measured(exchange.outcomes[-1].attempt, usage, **more)  # type: ignore[arg-type]


def test_q05_the_speed_is_that_of_the_last_streams(book: Book) -> None:
    """Q05: tokens over seconds, of all together; what came at once says nothing."""
    for tokens, seconds in ((100, 2.0), (50, 1.0), (10, None)):
        exchange = book.call(Label.OK)
        book.tallies.measured(exchange, measured(exchange, Usage(1, tokens), seconds=seconds))
    assert book.tallies.lately("a", "m1").speed == 50.0
    other = Lately()
    other.add_speed(100, 0.01)
    assert other.speed is None
    assert Lately().speed is None
    for _ in range(MEASURED):
        other.add_speed(20, 1.0)
    assert len(other.speeds) == MEASURED
    assert [other.speed] == [20.0]


def test_q03_q04_what_a_reply_took_is_counted_for_its_candidate(book: Book) -> None:
    """Q03, Q04: in the ledger, with the session; the other model is remembered by its name."""
    exchange = book.call(Label.OK)
    book.tallies.measured(exchange, measured(exchange, Usage(7, 3), served="m1-mini"))
    book.tallies.measured(exchange, measured(exchange, Usage(2, 1), lost=True))
    [(place, row)] = book.tallies.usage.today().items()
    assert (place.credential, place.model, place.upstream) == ("a", "m1", "openai")
    assert (row.calls, row.another, row.usage, row.lost_usage) == (1, 1, Usage(7, 3), Usage(2, 1))
    assert book.tallies.lately("a", "m1").served == "m1-mini"


def test_what_is_known_of_late_is_bounded(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: the candidate that was asked least recently is forgotten."""
    monkeypatch.setattr(module, "MOST_CANDIDATES", 1)
    book.call(Label.MODEL_UNSUPPORTED, Label.OK)
    assert book.tallies.lately("a", "m1").steps == QUIET.steps
    assert len(book.tallies.lately("b", "m1").steps) == 1


class _Always:
    """A drill that strikes A, as an exchange knows it."""

    kind = said = "429"
    asks = False

    def __init__(self, stage: Stage) -> None:
        self.learned, self.answers = stage.suspensions.learned, Answers()

    def strikes(self, candidate: Candidate, *, generating: bool) -> bool:
        return candidate == A

    def broke(self, request: Request, outcome: Outcome) -> None:
        """Nothing to note."""

    def over(self, exchange: Exchange, status: int) -> None:
        """Nothing to count."""


@pytest.mark.parametrize("label", [Label.RATE_LIMITED, Label.OK])
def test_h12_what_a_drill_made_up_is_shown_and_not_counted(book: Book, label: Label) -> None:
    """H12: neither as a failure nor as an answer, nor as one that broke off; what others said is counted."""
    stage = book.stage
    stage.suspensions.begin_drill()
    plain = stage.exchange(ROUTE)
    where = plain.request, plain.lineup, plain.selector, plain.ruleset, stage.now, plain.random
    exchange = DrilledExchange(*where, None, None, _Always(stage))
    step = exchange.begin(stage.now)
    while isinstance(step, Attempt):
        step = exchange.judge(reply(label if step.candidate == A else Label.OK), stage.now)
        if not isinstance(step, Release):
            book.tallies.tried("f", exchange)
    assert isinstance(step, Release)
    book.tallies.released("f", exchange, step.attempt)
    assert book.of(A) == UNTRIED
    assert book.of(B).answered == (label is not Label.OK)
    [told] = book.tallies.exchanges()
    assert [each.drill for each in told.tried] == [True, False][: len(told.tried)]
    if label is Label.OK:
        broken = exchange.failed_after_release(fault(FaultKind.CUT), stage.now)
        assert broken is not None
        book.tallies.ended_badly("f", exchange, broken)
        assert book.of(A) == UNTRIED
