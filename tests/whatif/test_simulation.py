"""What would have happened: the real exchange over recorded replies, at the times of the flows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from mitmproxy import http

from tests.support.decisions import NOW, candidate, route
from tests.support.saved_flows import (
    DONE,
    LIMITED,
    MISSING,
    ODD,
    STREAM,
    attempt,
    flow,
    noted,
    pool_of,
    recorder,
    rules,
    values,
)
from understudy.failover.steps import Compared
from understudy.model.pool import Budget, Pool, Strategy
from understudy.whatif import simulation as module
from understudy.whatif.narrative import story
from understudy.whatif.ordering import Arrangement
from understudy.whatif.result import End, Played
from understudy.whatif.simulation import WhatIf

WORK, HOME = candidate("work"), candidate("home")
POOL = pool_of(route(WORK, HOME))
ALONE = pool_of(route(WORK))
SURE = pool_of(route(WORK, HOME, second_opinion=False))
"""Where nothing is compared."""
OVERLOADED = {"error": {"message": "overloaded", "type": "server_error"}}


def play(saved: Iterable[http.HTTPFlow], pool: Pool = POOL) -> list[Played]:
    whatif = WhatIf(pool, rules())
    arrangement = Arrangement(recorder(pool))
    return list(whatif.play(whatif.witness(arrangement.calls(values(*saved)))))


def ends(saved: Iterable[http.HTTPFlow], pool: Pool = POOL) -> list[End]:
    return [played.end for played in play(saved, pool)]


def labels(played: Played) -> list[tuple[str, str]]:
    return [(each.outcome.attempt.candidate.credential.name, each.outcome.verdict.label) for each in played.tried]


def test_an_answer_stands_for_the_first_candidate() -> None:
    (played,) = play([flow()])
    assert (played.end, labels(played), played.route) == (End.ANSWERED, [("work", "ok")], "gpt-5")
    assert not played.tried[0].stands_in, "the file does not say who it was"


def test_an_error_without_another_recorded_reply_is_open() -> None:
    """What the next candidate would have said nobody knows, and nothing is claimed about it."""
    (played,) = play([flow(404, MISSING)])
    assert (played.end, labels(played)) == (End.OPEN, [("work", "model_unsupported")])
    assert played.asked is not None
    assert played.asked.candidate == HOME
    assert (played.witness, played.free) == ("", ())


def test_a_recorded_attempt_of_the_next_candidate_rescues() -> None:
    saved = [
        attempt(1, "work", "model_unsupported", 404, MISSING),
        flow(facts=noted(("work", "model_unsupported"), ("home", "ok"))),
    ]
    (played,) = play(saved)
    assert (played.end, labels(played)) == (End.RESCUED, [("work", "model_unsupported"), ("home", "ok")])
    assert played.answer is not None
    assert played.answer.attempt.candidate == HOME


def test_the_order_of_the_pool_of_now_counts() -> None:
    """The same file with the candidates the other way round: nobody is asked in vain."""
    saved = [
        attempt(1, "work", "model_unsupported", 404, MISSING),
        flow(facts=noted(("work", "model_unsupported"), ("home", "ok"))),
    ]
    (played,) = play(saved, pool_of(route(HOME, WORK)))
    assert (played.end, labels(played)) == (End.ANSWERED, [("home", "ok")])


def test_another_candidate_of_the_route_is_not_taken_for_the_one_that_answered() -> None:
    """That home answered says nothing about work, but it is told."""
    (played,) = play([flow(facts=noted(("home", "ok")))])
    assert (played.end, labels(played)) == (End.OPEN, [])
    assert played.witness == "home m1 is recorded to have answered this very call"


def test_a_reply_of_somebody_who_is_no_candidate_any_more_stands_in() -> None:
    (played,) = play([flow(facts=noted(("former", "ok")))])
    assert (played.end, labels(played)) == (End.ANSWERED, [("work", "ok")])
    assert played.tried[0].stands_in


def test_a_later_attempt_does_not_stand_for_the_first() -> None:
    """Of an exchange of which only the last attempt is in the file the first ones are unknown."""
    (played,) = play([flow(facts=noted(("former", "rate_limited"), ("gone", "ok")))])
    assert (played.end, labels(played)) == (End.OPEN, [])


def test_suspensions_follow_the_times_of_the_flows() -> None:
    """F14, L01: skipped within the hint, asked again after it; a skipped candidate is told with its reason."""
    refusal = flow(429, LIMITED, headers={"retry-after": "20"}, took=2)
    saved = [refusal, flow(at=NOW + 21.9), flow(at=NOW + 22.1)]
    first, second, third = play(saved)
    assert first.tried[0].outcome.suspension is not None
    assert first.tried[0].outcome.suspension.until == pytest.approx(NOW + 22)
    assert labels(second) == [("home", "ok")]
    assert [skip.candidate for skip in second.skipped] == ["work m1"]
    assert "rate_limited by general/rate_limited, suspended for another 1s" in second.skipped[0].why
    assert labels(third) == [("work", "ok")]
    assert third.skipped == ()


def test_calls_overlap_as_they_did() -> None:
    """A refusal that comes after another call has begun does not keep that one from asking."""
    slow = flow(404, MISSING, at=NOW, took=30)
    played = play([slow, flow(at=NOW + 10), flow(at=NOW + 31)])
    assert [labels(each) for each in played] == [[("work", "model_unsupported")], [("work", "ok")], [("home", "ok")]]


def test_they_are_told_in_the_order_in_which_they_began() -> None:
    played = play([flow(at=NOW, took=50), flow(at=NOW + 1), flow(at=NOW + 2, took=10)])
    assert [each.call.flow for each in played] == [1, 2, 3]


def test_a_success_resumes_what_it_proves() -> None:
    """Law 4: through the end of its stream, as on the wire."""
    suspended = flow(404, MISSING, at=NOW)
    begun_before = flow(200, STREAM + DONE, streamed=True, at=NOW + 0.5, took=5)
    after = flow(at=NOW + 10)
    assert labels(play([suspended, begun_before, after])[2]) == [("home", "ok")], "a late success changes nothing newer"


def test_a_stream_that_ended_badly_costs_its_candidate() -> None:
    """S03: the next call within the suspension goes to the other one."""
    bad = flow(200, STREAM + b'data: {"error": {"message": "overloaded"}}\n\n', streamed=True, took=1)
    first, second = play([bad, flow(at=NOW + 3)])
    assert first.end is End.ANSWERED
    assert labels(second) == [("home", "ok")]


def test_a_wait_is_taken_and_told() -> None:
    """L13: a short hint is waited out, and the recorded second try of the same candidate counts."""
    saved = [
        attempt(1, "work", "rate_limited", 429, LIMITED, headers={"retry-after": "2"}),
        flow(took=3.5, facts=noted(("work", "rate_limited"), ("work", "ok"))),
    ]
    (played,) = play(saved)
    assert (played.end, labels(played)) == (End.RESCUED, [("work", "rate_limited"), ("work", "ok")])
    assert [wait.seconds for wait in played.waits] == [2.0]
    assert played.tried[1].outcome.attempt.repeat


def test_a_repeat_that_is_not_recorded_is_open() -> None:
    (played,) = play([flow(503, OVERLOADED)])
    assert played.end is End.OPEN
    assert played.asked is not None
    assert played.asked.repeat
    assert played.free == ("home m1",)


STORED = "resp_0123456789abcdef"
STORED_STREAM = (
    b'data: {"type":"response.output_text.delta","delta":"Hello"}\n\n'
    b'data: {"type":"response.completed","response":{"id":"' + STORED.encode() + b'"}}\n\n'
)


@pytest.mark.parametrize(
    "answer", [{"id": STORED, "object": "response", "output": [{"type": "function_call"}]}, STORED_STREAM]
)
def test_what_lives_in_one_account_is_asked_of_that_account(answer: object) -> None:
    """P04: the next turn stays with the account that has the first one, though the favourite is free again."""
    stored: dict[str, Any] = {"path": "/v1/responses", "streamed": isinstance(answer, bytes)}
    notes = {"endpoint": "responses", "streamed": stored["streamed"]}
    first = flow(200, answer, facts=noted(("work", "rate_limited"), ("home", "ok"), **notes), **stored)
    refused = attempt(1, "work", "rate_limited", 429, LIMITED, headers={"retry-after": "20"}, path="/v1/responses")
    second = flow(200, answer, at=NOW + 60, facts=noted(("home", "ok"), exchange="def", **notes), **stored)
    second.request.text = json.dumps({"model": "gpt-5", "previous_response_id": STORED})
    other = flow(200, answer, at=NOW + 61, facts=noted(("work", "ok"), exchange="ghi", **notes), **stored)
    assert [labels(played) for played in play([refused, first, second, other])] == [
        [("work", "rate_limited"), ("home", "ok")],
        [("home", "ok")],
        [("work", "ok")],
    ]


@pytest.mark.parametrize("exchange", ["def", ""], ids=["noted", "by the replies before it"])
def test_p04_explain_says_what_binds_a_call(exchange: str) -> None:
    """P04: nobody else is asked, and the reason names what binds the call; also where only the notes know it."""
    stored: dict[str, Any] = {"path": "/v1/responses"}
    notes: dict[str, Any] = {"endpoint": "responses"}
    bound: dict[str, Any] = {"bound": {"to": "work", "by": f"previous_response_id {STORED[:16]}…"}} if exchange else {}
    said = [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]
    answer = {"id": STORED, "status": "completed", "output": said}
    first = flow(200, answer, facts=noted(("work", "ok"), **notes), **stored)
    facts = noted(("work", "rate_limited"), exchange="def", **notes, **bound)
    second = flow(429, LIMITED, at=NOW + 60, facts=facts, headers={"retry-after": "600"}, **stored)
    second.request.text = json.dumps({"model": "gpt-5", "previous_response_id": STORED})
    played = play([second] if exchange else [first, second])[-1]
    assert labels(played) == [("work", "rate_limited")]
    assert played.end is End.FAILED
    why = f"not asked: previous_response_id {STORED[:16]}… belongs to work"
    assert [(skip.candidate, skip.why) for skip in played.skipped] == [("home m1", why)]


def test_e01_explain_says_what_the_next_candidate_goes_without() -> None:
    """E01: the account of the reasoning is limited; what comes next is asked without it."""
    stored: dict[str, Any] = {"path": "/v1/responses"}
    notes: dict[str, Any] = {"endpoint": "responses"}
    reasoning = {"type": "reasoning", "id": "rs_0123456789", "encrypted_content": "gAAAAAB" + "x" * 60}
    first = flow(200, {"id": STORED, "output": [reasoning]}, facts=noted(("work", "ok"), **notes), **stored)
    second = flow(429, LIMITED, at=NOW + 60, facts=noted(("work", "rate_limited"), exchange="def", **notes), **stored)
    second.request.text = json.dumps({"model": "gpt-5", "input": [reasoning]})
    played = play([first, second])[-1]
    assert played.end is End.OPEN
    line = "open: home m1 is asked next without 1 sealed part that it cannot read, and what"
    assert line in "\n".join(story(played, rules(), "pool.yaml"))


@pytest.mark.parametrize(("text", "asked"), [("hi", 1), ("something else", 2)])
def test_the_tools_own_retry_shares_the_budget(text: str, asked: int) -> None:
    """W04: two attempts are one request's; the same request again has one, another one has its own."""
    names = ("one", "two", "three", "four")
    pool = pool_of(route(*map(candidate, names), budget=Budget(attempts=2)))
    saved, minute = [], {"retry-after": "60"}
    for exchange, (first, second), at in (("abc", names[:2], NOW), ("def", names[2:], NOW + 5)):
        limits = [(first, "rate_limited"), (second, "rate_limited")]
        saved.append(attempt(1, *limits[0], 429, LIMITED, at=at, exchange=exchange, headers=minute))
        saved.append(flow(429, LIMITED, at=at, facts=noted(*limits, exchange=exchange), headers=minute))
        saved[-1].request.text = json.dumps({"model": "gpt-5", "input": "hi" if at == NOW else text})
    assert [len(labels(played)) for played in play(saved, pool)] == [2, asked]


def test_nothing_that_a_rule_knows_is_released() -> None:
    """Law 9: unknown is released and suspends nothing."""
    first, second = play([flow(418, ODD), flow(at=NOW + 2)], SURE)
    assert (first.end, labels(first)) == (End.FAILED, [("work", "unknown")])
    assert labels(second) == [("work", "ok")]


def test_a_second_opinion_is_played() -> None:
    """J01: what the other one would say is not recorded, so the end is open, and nobody is suspended for it."""
    first, second = play([flow(418, ODD), flow(at=NOW + 2)])
    assert (first.end, labels(first)) == (End.OPEN, [("work", "unknown")])
    assert first.asked is not None
    assert (first.asked.candidate, first.asked.opinion) == (HOME, True)
    assert labels(second) == [("work", "ok")]


def test_a_recorded_second_opinion_is_played() -> None:
    """J01, J02: home answered then, and does so now; what that teaches holds for the calls that follow."""
    notes = noted(("work", "unknown"), ("home", "ok"))
    saved = [attempt(1, "work", "unknown", 418, ODD), flow(facts=notes)]
    (played,) = play(saved)
    assert (played.end, labels(played)) == (End.RESCUED, [("work", "unknown"), ("home", "ok")])
    assert played.tried[0].outcome.compared is Compared.CANDIDATE
    assert played.tried[1].outcome.attempt.opinion
    later = [*saved, flow(418, ODD, at=NOW + 60)]
    *_, last = play(later)
    assert last.end is End.OPEN
    assert last.asked is not None
    assert not last.asked.opinion


def test_an_answer_of_our_own() -> None:
    """W07: a 401 against a credential of the pool does not reach the tool."""
    (played,) = play([flow(401, {"error": {"message": "Incorrect API key provided"}})], ALONE)
    assert played.end is End.REFUSED
    assert played.refusal is not None
    assert played.refusal.status == 400


def test_with_everybody_suspended_for_long_it_is_refused() -> None:
    """W02: nobody comes back in time."""
    pool = pool_of(route(WORK, HOME, budget=Budget(wait=0)))
    long = {"retry-after": "600"}
    saved = [flow(429, LIMITED, headers=long), flow(429, LIMITED, headers=long, at=NOW + 2), flow(at=NOW + 4)]
    played = play(saved, pool)
    assert [each.end for each in played] == [End.OPEN, End.FAILED, End.REFUSED]


def test_a_call_without_a_route_passes() -> None:
    assert ends([flow(model="other")]) == [End.UNROUTED]


def test_a_call_without_a_reply_is_not_played() -> None:
    """L12: nothing is learnt from a tool that went away."""
    assert ends([flow(0, error="Client disconnected."), flow()]) == [End.UNRECORDED, End.ANSWERED]


def test_a_fault_is_judged() -> None:
    """L09: nobody was reached, so the whole upstream is out."""
    (played,) = play([flow(0, error="connection refused", connected=False)])
    assert labels(played) == [("work", "overloaded")]
    assert played.tried[0].outcome.suspension is not None
    assert played.tried[0].outcome.suspension.key.scope == "upstream"


def test_round_robin_goes_round() -> None:
    pool = pool_of(route(WORK, HOME, strategy=Strategy.ROUND_ROBIN))
    played = play([flow(at=NOW + 9 * number) for number in range(4)], pool)
    assert [labels(each)[0][0] for each in played] == ["work", "home", "work", "home"]


def test_a_witness_is_looked_for_before_and_after() -> None:
    saved = [flow(404, MISSING), flow(at=NOW + 30, facts=noted(("home", "ok"), exchange="later"))]
    assert play(saved)[0].witness == "it answered another call 29s later"
    saved = [flow(at=NOW - 60, facts=noted(("home", "ok"), exchange="before")), flow(404, MISSING)]
    assert play(saved)[1].witness == "it answered another call 1m1s earlier"


def test_flows_without_times_are_played_in_a_row() -> None:
    timeless = [flow(404, MISSING), flow(), flow()]
    for each in timeless:
        each.request.timestamp_start = 0
    assert [labels(each)[0][0] for each in play(timeless)] == ["work", "home", "home"]


@pytest.mark.parametrize(("limit", "value"), [("MOST_AT_ONCE", 3), ("MOST_BYTES", 4000)])
def test_what_is_under_way_is_bounded(limit: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Law 10: neither replies that never end nor one that all others wait for fill the memory."""
    monkeypatch.setattr(module, limit, value)
    for took in ([3000.0] * 20, [3000.0, *[0.0] * 19]):
        whatif = WhatIf(POOL, rules())
        saved = (flow(at=NOW + at, took=each) for at, each in enumerate(took))
        most, told = 0, []
        for played in whatif.play(Arrangement(recorder(POOL)).calls(values(*saved))):
            most = max(most, len(whatif._agenda) + len(whatif._over))
            told.append(played.call.flow)
        assert most <= 4
        assert sorted(told) == list(range(1, 21))
        assert whatif._held == 0


def test_it_is_the_same_each_time() -> None:
    saved = [flow(503, OVERLOADED), flow(at=NOW + 1), flow(429, LIMITED, at=NOW + 2), flow(at=NOW + 3)]
    assert [each.waits for each in play(saved)] == [each.waits for each in play(saved)]


def test_p05_a_recorded_user_gets_what_is_theirs() -> None:
    """P05: a call whose recording names a user is played as that user's; one without a name as one without."""
    limited = replace(route(WORK, HOME), who=("alice",))
    named = flow(facts=noted(("work", "ok"), user="alice"))
    assert ends([named], pool_of(limited)) == [End.ANSWERED]
    assert ends([flow(facts=noted(("work", "ok")))], pool_of(limited)) == [End.REFUSED]
