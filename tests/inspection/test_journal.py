"""What the journal says aloud, and what it notes as plain data."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

import pytest
from mitmproxy import http
from mitmproxy.test import tflow

from tests.support.decisions import Stage, candidate, fault, reply, route, upstream
from understudy.dialects import DIALECTS
from understudy.dialects.base import Call
from understudy.failover.exchange import Exchange
from understudy.failover.memory import Plan
from understudy.failover.steps import Attempt, Refuse, Release, Step, Wait
from understudy.inspection.journal import FlowJournal
from understudy.model import Usage
from understudy.model.pool import Budget, Route
from understudy.model.suspension import Key, key_of
from understudy.model.verdict import Label, Scope, Then
from understudy.proxy import exchange_facts as known
from understudy.proxy.listener import Abandoned, Measured
from understudy.replies.reply import FaultKind, Reply
from understudy.requests.conversation import Conversation
from understudy.requests.sites import Recognised

A, B, C = candidate("a", "m1"), candidate("b", "m1"), candidate("c", "m2", upstream("other"))
OPENAI = DIALECTS["openai"]
ENDPOINT = OPENAI.endpoint("POST", "/chat/completions")


class Told:
    """A journal, a tool's flow and an exchange, told of as the layer tells."""

    def __init__(self, stage: Stage, on: Route, replies: Sequence[Reply], alias: str = "gpt-5", **options: Any) -> None:
        assert ENDPOINT is not None
        self.stage = stage
        self.journal = FlowJournal(stage.clock)
        self.shown: list[http.HTTPFlow] = []
        self.over: list[known.Facts] = []
        self.journal.show = lambda attempt, tool: self.shown.extend([attempt] if attempt else [])
        self.journal.listeners.append(lambda flow, facts: self.over.append(json.loads(json.dumps(facts))))
        self.flow = tflow.tflow()
        self.exchange = stage.exchange(on, alias, **options)
        plan = Plan(
            Recognised(OPENAI, ENDPOINT, "/chat/completions", ""),
            Call(alias, bool(options.get("streamed"))),
            on,
            Conversation(),
        )
        self.journal.began(self.flow, self.exchange, plan)
        self.play(self.exchange, self.exchange.begin(stage.now), list(replies))

    def play(self, exchange: Exchange, step: Step, left: list[Reply]) -> None:
        """Until its end, or until no reply is left."""
        while True:
            match step:
                case Attempt(number=number):
                    if not left:
                        return None
                    step = exchange.judge(left.pop(0), self.stage.now)
                    self.stage.clock.now += 0.25
                    if not (isinstance(step, Release) and step.attempt == number):
                        told = Abandoned(
                            self.flow, exchange, exchange.outcomes[-1], step, lambda: tflow.tflow(resp=True)
                        )
                        self.journal.abandoned(told)
                case Wait(seconds=seconds, reason=reason):
                    self.journal.waited(self.flow, exchange, seconds, reason)
                    self.stage.clock.now += seconds
                    step = exchange.resume(self.stage.now)
                case Release(attempt=number):
                    self.journal.released(self.flow, exchange, number)
                    return self.journal.finished(self.flow, exchange)
                case Refuse():
                    self.journal.released(self.flow, exchange, 0)
                    return self.journal.finished(self.flow, exchange)

    @property
    def facts(self) -> known.Facts:
        """What the flow knows in the end."""
        (told,) = self.over
        assert json.loads(json.dumps(self.flow.metadata["understudy"])) == told
        return told


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What was logged, with the level."""
    return [(each.levelname, each.message) for each in caplog.records if each.name == "understudy"]


@pytest.fixture
def stage(caplog: pytest.LogCaptureFixture) -> Stage:
    """A stage, with everything logged being seen."""
    caplog.set_level(logging.DEBUG, "understudy")
    return Stage()


def test_a_call_without_replay_is_no_line(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Most calls say nothing aloud; the flow knows who answered."""
    told = Told(stage, route(A, B), [reply(Label.OK)])
    assert lines(caplog) == []
    assert told.flow.comment == "1/2 a m1: answered"
    facts = told.facts
    assert len(facts.pop("exchange")) == 12
    assert facts == {
        "time": 1_700_000_000.0,
        "route": "gpt-5",
        "alias": "gpt-5",
        "dialect": "openai",
        "endpoint": "chat/completions",
        "streamed": False,
        "mode": "enforce",
        "candidates": ["a m1", "b m1"],
        "of": 2,
        "attempts": 1,
        "tried": [
            {"number": 1, "place": 1, "credential": "a", "model": "m1", "upstream": "openai", "status": 200}
            | {"label": "ok", "rule": "test/ok", "evidence": "because"}
        ],
        "answer": 1,
        "credential": "a",
        "model": "m1",
        "released": 0.25,
        "seconds": 0.25,
    }
    assert told.flow.marked == ""


def test_an_error_that_nobody_could_mend_is_a_line(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the only attempt failed, or what came is known to no rule: the tool has an error, and here is why."""
    told = Told(stage, route(A), [reply(Label.MODEL_UNSUPPORTED, status=404)])
    line = "1/1 a m1: released: model_unsupported by test/model_unsupported, suspended 10m: because"
    assert lines(caplog) == [("INFO", line)]
    assert told.flow.comment == line
    caplog.clear()
    Told(stage, route(B, C), [reply(Label.UNKNOWN, status=418)])
    assert lines(caplog) == [("INFO", "1/2 b m1: released: unknown by test/unknown: because")]


def test_a_replay_is_told_line_by_line(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Lines one can read aloud, at the level they deserve; waits, repeats and who waits for the owner."""
    replies = [
        reply(Label.RATE_LIMITED, retry_after="2"),
        reply(Label.RATE_LIMITED, retry_after="20"),
        reply(Label.CREDENTIAL_REJECTED),
        reply(Label.OK),
    ]
    told = Told(stage, route(A, B, C, budget=Budget(attempts=8)), replies)
    assert lines(caplog) == [
        ("INFO", "1/3 a m1: rate_limited by test/rate_limited, suspended 2s: because"),
        ("INFO", "waiting 2.0s: a m1: rate_limited, tried once more"),
        ("INFO", "1/3 again a m1: rate_limited by test/rate_limited, suspended 20s: because"),
        ("WARNING", "2/3 b m1: credential_rejected by test/credential_rejected, credential suspended 30m: because"),
        ("INFO", "3/3 c m2: answered"),
    ]
    facts = told.facts
    assert facts["waits"] == [{"before": 2, "seconds": 2.0, "why": "a m1: rate_limited, tried once more"}]
    assert [(each["label"], each.get("again", False)) for each in facts["tried"]] == [
        ("rate_limited", False),
        ("rate_limited", True),
        ("credential_rejected", False),
        ("ok", False),
    ]
    assert facts["tried"][1]["suspended"] == {
        "what": "candidate a m1",
        "seconds": 20.0,
        "until": told.exchange.outcomes[1].suspension.until,  # type: ignore[union-attr]
        "hint": told.exchange.outcomes[1].suspension.hint,  # type: ignore[union-attr]
    }
    assert facts["failing"] == 0.25
    assert facts["released"] == pytest.approx(3.0)
    assert told.flow.comment.count(" → ") == 3
    assert told.flow.marked == ":arrow_right_hook:"
    # The first one might have been released in the end, so it was held back until another one was.
    assert [each.metadata["understudy"]["attempt"] for each in told.shown] == [2, 3, 1]
    assert told.shown[0].comment == "1/3 again a m1: rate_limited by test/rate_limited, suspended 20s"
    assert told.shown[1].marked == "K"


def test_o05_where_no_attempt_is_recorded_a_script_that_asks_gets_it_all_the_same(stage: Stage) -> None:
    """O05: its flow is not made for the journal, and has its comment, marker and facts when it is made."""
    told = Told(stage, route(A, B), [])
    made: list[http.HTTPFlow] = []

    def make() -> http.HTTPFlow:
        made.append(tflow.tflow(resp=True))
        return made[-1]

    told.journal.is_recorded = lambda: False
    step = told.exchange.judge(reply(Label.MODEL_UNSUPPORTED, status=404), stage.now)
    abandoned = Abandoned(told.flow, told.exchange, told.exchange.outcomes[-1], step, make)
    told.journal.abandoned(abandoned)
    told.play(told.exchange, step, [reply(Label.OK)])
    assert (made, told.shown) == ([], [])
    assert told.facts["attempts"] == 2
    record = abandoned.record
    assert record is made[0]
    assert (record.marked, record.metadata["understudy"]["attempt"]) == ("M", 1)
    assert record.comment.startswith("1/2 a m1: model_unsupported by test/model_unsupported, suspended ")
    assert told.flow.comment.startswith(f"{record.comment}: because")


def test_who_was_skipped_and_why(stage: Stage) -> None:
    """Suspended before, blocked for this request, and out of rotation for what this exchange has learnt."""
    stage.suspend(A, 90, label=Label.QUOTA_EXHAUSTED, scope=Scope.CREDENTIAL)
    more = candidate("b", "m2")
    blocked = {"other": "ssl_insecure is set"}
    told = Told(stage, route(A, B, C, more), [reply(Label.CREDENTIAL_REJECTED)], blocked=blocked)
    facts = told.facts
    assert facts["answer"] == 0
    assert {(each["credential"], each["model"]): each["why"] for each in facts["skipped"]} == {
        ("a", "m1"): "credential suspended for quota_exhausted by test/quota_exhausted, for another 1m30s: because",
        ("c", "m2"): "ssl_insecure is set",
        ("b", "m2"): "credential suspended for credential_rejected by test/credential_rejected, "
        "for another 30m: because",
    }
    assert told.flow.comment.endswith(" → understudy answered itself")


@pytest.mark.parametrize(
    ("what", "marker"),
    [
        (reply(Label.MODEL_UNSUPPORTED), "M"),
        (reply(Label.CONTEXT_EXCEEDED), "M"),
        (reply(Label.CREDENTIAL_REJECTED), "K"),
        (reply(Label.QUOTA_EXHAUSTED), "Q"),
        (fault(FaultKind.CONNECT), "F"),
        (fault(FaultKind.SILENCE), "F"),
    ],
)
def test_markers(stage: Stage, what: Reply, marker: str) -> None:
    """O05: what happened can be seen in the flow list at a glance, and the name is one that mitmproxy knows."""
    from mitmproxy.utils import emoji

    told = Told(stage, route(A, C), [what, reply(Label.OK)])
    assert [each.marked for each in told.shown] == [marker]
    assert marker in emoji.emoji


def test_facts_are_bounded_and_can_be_saved(stage: Stage) -> None:
    """Law 10: many candidates, long and odd names: what is noted stays small, in UTF-8, and on one line."""
    many = [candidate(f"c{number}", "m\ud800\n" * 100) for number in range(500)]
    for each in many[:400]:
        stage.suspend(each, 600)
    budget = Budget(attempts=32, seconds=3600)
    told = Told(stage, route(*many, budget=budget), [reply(Label.MODEL_UNSUPPORTED)] * 31, alias="x" * 9999 + "\ud800")
    assert len(told.flow.metadata["understudy"]["candidates"]) == len(told.flow.metadata["understudy"]["skipped"]) == 20
    assert told.flow.metadata["understudy"]["of"] == 500
    told.journal.finished(told.flow, told.exchange)
    written = json.dumps(told.facts, ensure_ascii=False)
    assert len(written.encode()) < 128 * 1024
    assert all(char.isprintable() for char in written)


def test_nobody_is_told_twice_and_nothing_is_kept(stage: Stage) -> None:
    """The layer may say twice that an exchange is over; what is held back ends with it."""
    told = Told(stage, route(A, B), [reply(Label.RATE_LIMITED, retry_after="20")])
    assert told.shown == []
    assert told.over == []
    for _ in range(2):
        told.journal.finished(told.flow, told.exchange)
    assert len(told.over) == len(told.shown) == 1
    assert told.facts["answer"] is None
    assert not told.journal._told


def test_a_listener_that_fails_is_heard_of(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """To write about a call must never cost it, nor keep others from hearing."""
    told = Told(stage, route(A, B), [])
    told.journal.listeners.insert(0, lambda flow, facts: 1 / 0)  # type: ignore[arg-type]
    told.journal.finished(told.flow, told.exchange)
    assert len(told.over) == 1
    assert lines(caplog)[-1][0] == "ERROR"


def test_a_journal_that_came_late(stage: Stage) -> None:
    """After the addon was loaded anew, the new journal is told only the end of what is under way."""
    told = Told(stage, route(A, B), [])
    late = FlowJournal(stage.clock)
    told.exchange.judge(reply(Label.OK), stage.now)
    late.released(told.flow, told.exchange, 1)
    late.finished(told.flow, told.exchange)


def test_why_a_candidate_was_passed_over_is_said_with_the_answer(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """O05: in the line and the comment in few words, in the flow's facts in full."""
    stage.suspend(A, seconds=540, label=Label.MODEL_UNSUPPORTED)
    told = Told(stage, route(A, B, C), [reply(Label.OK)])
    line = "2/3 b m1: answered (a suspended: model_unsupported, 9m left)"
    assert lines(caplog) == [("INFO", line)]
    assert told.flow.comment == line
    assert told.facts["skipped"] == [
        {"credential": "a", "model": "m1", "place": 1, "brief": "suspended: model_unsupported, 9m left"}
        | {"why": "suspended for model_unsupported by test/model_unsupported, for another 9m: because"}
    ]


def test_a_candidate_that_another_call_probes_is_said_to_be(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """F14: it is passed over as well, though nothing is suspended."""
    on = route(A, B)
    stage.suspend(A)
    stage.suspensions.make_due(known_key())
    stage.open(on)
    Told(stage, on, [reply(Label.OK)])
    assert lines(caplog) == [("INFO", "2/2 b m1: answered (a is being probed by another call)")]


def test_a_failure_within_a_longer_suspension_says_what_is_left_of_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """F14: a probe by hand that fails: out until the old end, and the line says how long that is."""
    stage.suspend(A, seconds=3600, label=Label.MODEL_UNSUPPORTED)
    stage.clock.now += 600
    stage.suspensions.make_due(known_key())
    Told(stage, route(A, C), [reply(Label.MODEL_UNSUPPORTED), reply(Label.OK)])
    (_, failed), _ = lines(caplog)
    assert failed.startswith("1/2 a m1: model_unsupported by test/model_unsupported, suspended for another 50m")


def known_key() -> Key:
    return key_of(A, Scope.CANDIDATE)


def test_an_open_verdict_is_told_as_one(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Line, comment and facts say that no words made the verdict (J01); a certain one needs no mark."""
    told = Told(stage, route(A), [Reply(400, body=b"odd")])
    assert lines(caplog) == [("INFO", "1/1 a m1: released: unknown by builtin/unknown (open): HTTP 400: odd")]
    assert told.flow.comment == lines(caplog)[0][1]
    assert told.facts["tried"][0]["open"] is True
    caplog.clear()
    told = Told(stage, route(A), [reply(Label.REQUEST_INVALID)])
    assert lines(caplog) == [("INFO", "1/1 a m1: released: request_invalid by test/request_invalid: because")]
    assert "open" not in told.facts["tried"][0]


def test_a_second_opinion_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """J01, J02: who was asked, what it came to and under which signature; in the log, the comment and the facts."""
    odd = reply(Label.REQUEST_INVALID, certain=False)
    told = Told(stage, route(A, B), [odd, reply(Label.OK)])
    signature = told.facts["tried"][0]["signature"]
    assert told.facts["tried"][0]["compared"] == "candidate"
    assert told.facts["tried"][0]["suspended"]["seconds"] == 30
    assert told.facts["tried"][1]["second_opinion"] is True
    line = f"second opinion: b m1 answers the same request, so a m1 is suspended 30s (signature {signature})"
    assert ("INFO", line) in lines(caplog)
    assert line in told.flow.comment
    caplog.clear()
    stage.clock.now += 30
    known = Told(stage, route(A, B), [odd, odd])
    assert ("INFO", "2/2 b m1: request_invalid by test/request_invalid (open): because") in lines(caplog)
    assert "comparison: another candidate refuses too, so it is the request's fault" in known.flow.comment
    assert known.facts["answer"] == 1
    assert known.facts["tried"][0]["compared"] == "request"
    caplog.clear()
    Told(stage, route(A, B), [odd])
    assert ("INFO", f"known by comparison: no other candidate is asked (signature {signature})") in lines(caplog)


def test_a_second_opinion_that_refuses_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """J02: an attempt that was made for nothing else says so."""
    odd = reply(Label.UNKNOWN, status=400, certain=False)
    told = Told(stage, route(A, B), [odd, odd])
    assert ("INFO", "2/2 b m1 (second opinion): unknown by test/unknown (open): because") in lines(caplog)
    assert "second opinion: b m1 refuses too, so it is the request's fault" in told.flow.comment


def test_what_all_refuse_alike_is_told(stage: Stage) -> None:
    """J04: once, and the facts of each attempt say it."""
    told = Told(stage, route(A, B), [reply(Label.QUOTA_EXHAUSTED), reply(Label.QUOTA_EXHAUSTED)])
    assert told.flow.comment.count("all candidates refuse this request alike, so the request is suspected") == 1
    assert [each["compared"] for each in told.facts["tried"]] == ["alike", "alike"]
    assert all(each["suspended"]["seconds"] == 30 for each in told.facts["tried"])


def test_e01_a_move_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """E01: log, comment and facts say that a conversation moved, and what it cost; later turns say what they lack."""
    on = route(A, B)
    stage.ledger.learn(["sealed a"], "a")
    told = Told(
        stage, on, [reply(Label.QUOTA_EXHAUSTED, retry_after="60"), reply(Label.OK)], **stage.sealed(on, "sealed a")
    )
    line = (
        "2/2 b m1: answered, the conversation moves from a without 1 sealed part: "
        "their reasoning and the prompt cache are lost"
    )
    assert ("INFO", line) in lines(caplog)
    assert line in told.flow.comment
    assert told.facts["moved"] == {"from": "a", "to": "b"}
    assert (told.facts["tried"][1]["left_out"], told.facts["tried"][1]["moved_from"]) == (1, "a")
    stage.ledger.move("sealed a", "b")
    later = Told(stage, on, [reply(Label.OK)], **stage.sealed(on, "sealed a"))
    assert later.flow.comment.endswith(
        "b m1: answered (a suspended: quota_exhausted, 1m left), without 1 sealed part that it cannot read"
    )
    assert "moved" not in later.facts


def test_p04_what_binds_a_call_is_told(stage: Stage) -> None:
    """P04: the facts say to whom a call is bound and by what, and so does the reason of whoever was not asked."""
    bond = "previous_response_id resp_0123456789a…"
    told = Told(stage, route(A, B), [reply(Label.OVERLOADED, then=Then(retry_same=0))], bound_to="a", bound_by=bond)
    assert told.facts["bound"] == {"to": "a", "by": bond}
    [skipped] = told.facts["skipped"]
    assert (skipped["credential"], skipped["why"]) == ("b", f"not asked: {bond} belongs to a")


def test_q03_the_facts_say_what_each_attempt_took() -> None:
    """Q03: beside its verdict; what the tool did not get is marked, and not in the sum."""
    told = Told(Stage(), route(A, B), [])
    exchange, flow = told.exchange, told.flow
    step = exchange.judge(reply(Label.MODEL_UNSUPPORTED), told.stage.now)
    told.journal.measured(flow, exchange, Measured(exchange.outcomes[0].attempt, Usage(7), lost=True))
    assert isinstance(step, Attempt)
    step = exchange.judge(reply(Label.OK), told.stage.now)
    told.journal.released(flow, exchange, 2)
    told.journal.measured(flow, exchange, Measured(exchange.outcomes[1].attempt, Usage(100, 30, 64, 0, 20)))
    told.journal.finished(flow, exchange)
    refused, answered = told.facts["tried"]
    assert (refused["usage"], refused["lost"]) == ({"input": 7}, True)
    assert answered["usage"] == {"input": 100, "output": 30, "cached": 64, "reasoning": 20} == told.facts["usage"]
    assert "lost" not in answered
    assert "served_model" not in told.facts


def test_q04_another_model_stands_in_the_comment_once() -> None:
    """Q04: told with the release, or at the end where the reply names its model late."""
    for early in (True, False):
        told = Told(Stage(), route(A), [])
        exchange, flow = told.exchange, told.flow
        exchange.judge(reply(Label.OK), told.stage.now)
        told.journal.released(flow, exchange, 1)
        if early:
            told.journal.served_by(flow, exchange, 1, "m1-mini")
        told.journal.measured(flow, exchange, Measured(exchange.outcomes[0].attempt, None, "m1-mini"))
        told.journal.finished(flow, exchange)
        assert flow.comment.count("a m1: the reply names m1-mini, another model than was sent") == 1
        assert told.facts["served_model"] == told.facts["tried"][0]["served_model"] == "m1-mini"


def test_q03_a_call_that_the_tool_left_says_what_it_took_so_far() -> None:
    """Q03: there is no attempt with a verdict, but it was paid for."""
    told = Told(Stage(), route(A), [])
    [attempt] = told.exchange.under_way
    told.journal.measured(told.flow, told.exchange, Measured(attempt, Usage(100)))
    told.journal.finished(told.flow, told.exchange)
    assert (told.facts["usage"], told.facts["tried"]) == ({"input": 100}, [])
