"""What is remembered from one call to the next: the last refusal, and what earlier rounds have used up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.decisions import OTHER, Source, Stage, candidate, reply, route
from understudy.dialects import DIALECTS
from understudy.dialects.base import Call
from understudy.failover.affinity import NOTHING_SPENT, RETRY_SECONDS, Spent
from understudy.failover.memory import REFUSAL_LIMIT, TOOL, UPLOAD_REPLY, Memory, Plan, Refusal, states_of
from understudy.failover.steps import Attempt, Wait
from understudy.model.pool import Budget, Pool, Route
from understudy.model.verdict import Label, Then
from understudy.requests.conversation import Conversation
from understudy.requests.sites import Recognised

A, B = candidate("a"), candidate("b", at=OTHER)
BODY = b'{"error": {"message": "no such model"}}'


def plan(on: Route, session: str = "") -> Plan:
    """A call that this route serves."""
    openai = DIALECTS["openai"]
    endpoint = openai.endpoint("POST", "/chat/completions")
    assert endpoint is not None
    return Plan(Recognised(openai, endpoint, "/chat/completions", ""), Call("gpt-5", False), on, Conversation(session))


# -- F17 ---------------------------------------------------------------------------------------------------------


def test_f17_a_refusal_is_told_as_it_reads() -> None:
    """F17: its body is remembered, so that others can be told the same; one that is too long is not."""
    stage = Stage()
    memory, exchange = Memory(stage.clock), stage.exchange(route(A, B))
    assert memory.last_refusal(exchange) is None
    refusal = Refusal(404, "application/problem+json", BODY)
    memory.remember_refusal(exchange, refusal)
    assert memory.last_refusal(exchange) == refusal
    memory.remember_refusal(exchange, Refusal(400, "text/plain", b"x" * (REFUSAL_LIMIT + 1)))
    assert memory.last_refusal(exchange) == refusal


# -- W04: a tool that gives up by itself -------------------------------------------------------------------------


def test_w04_a_round_that_the_tool_gives_up_has_spent_what_it_sent() -> None:
    """W04: the next round of the same request has what is left; that of another request has it all."""
    stage, on, request = Stage(), route(A, B), b"one"
    memory, call = Memory(stage.clock), plan(on)
    exchange, _ = stage.open(on)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    memory.left(exchange, call, request)
    assert memory.spent(call, request) == Spent(2, 0.0)
    assert memory.spent(call, b"two") == NOTHING_SPENT
    again, _ = stage.open(on, spent=memory.spent(call, request))
    memory.left(again, call, request)
    assert memory.spent(call, request) == Spent(3, 0.0)


def test_w04_a_wait_that_the_tool_gives_up_counts_as_far_as_it_went() -> None:
    """W04: also the longest wait is shared; but without anything sent there is nothing to share."""
    stage, request = Stage(), b"{}"
    on = route(A, B, budget=Budget(patience=0))
    memory, call = Memory(stage.clock), plan(on)
    exchange, _ = stage.open(on)
    limited = reply(Label.RATE_LIMITED, retry_after="20")
    assert exchange.judge(limited, stage.now) == Attempt(2, B)
    assert isinstance(exchange.judge(limited, stage.now), Wait)
    stage.clock.now += 12
    memory.left(exchange, call, request)
    assert memory.spent(call, request) == Spent(2, 12.0)
    waiting, step = stage.open(on)
    assert isinstance(step, Wait)
    other = b"another"
    memory.left(waiting, call, other)
    assert memory.spent(call, other) == NOTHING_SPENT


def test_w04_a_stream_that_the_tool_has_was_answered() -> None:
    """W04: whoever stops a stream that runs and asks the same again has a budget of its own."""
    stage, on, request = Stage(), route(A, B), b"{}"
    memory, call = Memory(stage.clock), plan(on)
    exchange, _ = stage.open(on, streamed=True)
    exchange.accept()
    memory.left(exchange, call, request)
    assert memory.spent(call, request) == NOTHING_SPENT


def test_p04_what_a_tool_uploads_belongs_to_its_own_account() -> None:
    """P04: a file that a tool has uploaded itself is known to its own credential, and to no other."""
    memory = Memory(lambda: 1000.0)
    memory.learn_upload(b'{"id": "file-abc123DEF456", "object": "file"}')
    assert memory.ledger.owner(("file-abc123DEF456",)) == TOOL
    memory.learn_upload(b" " * UPLOAD_REPLY + b'{"id": "file-zzz999ZZZ999"}')
    assert memory.ledger.owner(("file-zzz999ZZZ999",)) == ""


def test_w04_after_an_answer_the_same_body_begins_anew() -> None:
    """W04: what earlier rounds have used up is forgotten with the answer."""
    stage = Stage()
    memory, on = Memory(stage.clock), route(A, B, budget=Budget(wait=0))
    failed = stage.answer(on, [reply(Label.OVERLOADED, then=Then(retry_same=0))] * 2)
    memory.ended(failed.exchange, plan(on), b"body", Label.OVERLOADED)
    assert memory.spent(plan(on), b"body").attempts > 0
    memory.ended(failed.exchange, plan(on), b"body", Label.OK)
    assert memory.spent(plan(on), b"body") == NOTHING_SPENT


def test_w04_a_tool_that_leaves_before_anything_was_sent_records_no_round() -> None:
    """W04: there is no budget to share with its next round."""
    stage = Stage()
    memory, on = Memory(stage.clock), route(A, B)
    stage.suspend(A, 2.0, hint="retry-after", label=Label.RATE_LIMITED)
    stage.suspend(B, 2.0, hint="retry-after", label=Label.RATE_LIMITED)
    exchange, step = stage.open(on)
    assert isinstance(step, Wait)
    stage.clock.now += 1
    memory.left(exchange, plan(on), b"body")
    assert memory.spent(plan(on), b"body") == NOTHING_SPENT


def test_w04_a_retry_is_the_same_request_in_every_respect() -> None:
    """W04: body, path, query, model and user; of a large body its two ends and its length."""
    stage, on = Stage(), route(A, B)
    memory, first = Memory(stage.clock), plan(on)
    exchange, _ = stage.open(on)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    large = b"a" * (1 << 20) + b"-" * 100 + b"z" * (1 << 20)
    small = b"a" * (1 << 20) + b"z" * (1 << 20)
    for body in (b"{}", large, small):
        memory.left(exchange, first, body)
    known = Spent(2, 0.0)
    for same in (b"{}", large, small, large.replace(b"-", b"+")):
        assert memory.spent(first, same) == known
    others = (b"{}x", b"x" + large[1:], large[:-1] + b"x", large[:1000] + b"x" + large[1000:], small[1:] + b"x")
    half = (1 << 20) - 1
    for other in (*others, small[:half] + b"x" + small[half + 1 :], small[: half + 1] + b"x" + small[half + 2 :]):
        assert memory.spent(first, other) == NOTHING_SPENT
    for changed in (
        replace(first, recognised=replace(first.recognised, tail="/responses")),
        replace(first, recognised=replace(first.recognised, query="a=1")),
        replace(first, call=replace(first.call, alias="other")),
        replace(first, user="alice"),
    ):
        assert memory.spent(changed, b"{}") == NOTHING_SPENT


@pytest.mark.parametrize("label", [None, *Label])
def test_w04_which_replies_a_tool_comes_back_after(label: Label | None) -> None:
    """W04: an answer of our own, and what another candidate could cure; not a fault of its request."""
    stage, on = Stage(), route(A, B, budget=Budget(wait=0))
    memory = Memory(stage.clock)
    failed = stage.answer(on, [reply(Label.OVERLOADED, then=Then(retry_same=0))] * 2)
    memory.ended(failed.exchange, plan(on), b"body", label)
    comes_back = label not in (Label.OK, Label.UNKNOWN, Label.REQUEST_INVALID, Label.CONTENT_FILTERED)
    assert memory.spent(plan(on), b"body") == (
        replace(failed.exchange.spent, told=True) if comes_back else NOTHING_SPENT
    )


def test_w04_a_fault_of_the_request_does_not_end_its_rounds() -> None:
    """W04: only an answer does; and an answer to another request says nothing about this one."""
    stage, on = Stage(), route(A, B, budget=Budget(wait=0))
    memory = Memory(stage.clock)
    failed = stage.answer(on, [reply(Label.OVERLOADED, then=Then(retry_same=0))] * 2)
    memory.ended(failed.exchange, plan(on), b"body", None)
    memory.ended(failed.exchange, plan(on), b"body", Label.REQUEST_INVALID)
    memory.ended(failed.exchange, plan(on), b"other", Label.OK)
    assert memory.spent(plan(on), b"body") == replace(failed.exchange.spent, told=True)
    memory.ended(failed.exchange, plan(on), b"body", Label.OK)
    assert memory.spent(plan(on), b"body") == NOTHING_SPENT


def test_w04_only_what_this_round_has_sent_makes_it_one() -> None:
    """W04: a tool that leaves its second round before anything was sent has spent what the first one did, once."""
    stage, on = Stage(), route(A, B)
    memory = Memory(stage.clock)
    for each in (A, B):
        stage.suspend(each, 20)
    exchange, step = stage.open(on, spent=Spent(3, 0.0))
    assert isinstance(step, Wait)
    memory.left(exchange, plan(on), b"body")
    assert memory.spent(plan(on), b"body") == NOTHING_SPENT


def test_another_time_for_sessions_forgets_them_and_the_same_does_not() -> None:
    """P02: `affinity` in the pool file."""
    stage, on = Stage(), route(A, B)
    memory, lineup = Memory(stage.clock), stage.lineup(on)
    memory.sessions.take_seat(lineup, "s", B)
    memory.use(Pool())
    assert memory.sessions.seat(lineup, "s") == B
    memory.use(Pool(affinity=60.0))
    assert memory.sessions.seat(lineup, "s") is None
    memory.sessions.take_seat(lineup, "s", B)
    memory.use(Pool(affinity=60.0))
    assert memory.sessions.seat(lineup, "s") == B
    stage.clock.now += 61
    assert memory.sessions.seat(lineup, "s") is None


def test_e04_who_may_get_the_state_of_a_turn() -> None:
    """E04: whose account has given it to the tool; one of unknown origin only the tool's own login."""
    memory = Memory(lambda: 1000.0)

    class Own(Source):
        is_client = True

    own = replace(A, credential=replace(A.credential, name="own~2", secret=Own()))
    assert [memory.is_state_of("state x", each) for each in (A, own)] == [False, True]
    memory.learn(A, ["state x"])
    assert [memory.is_state_of("state x", each) for each in (A, B, own)] == [True, False, False]
    memory.ledger.learn(["state y"], "own")
    assert [memory.is_state_of("state y", each) for each in (A, own)] == [False, True]


def test_p04_what_an_answer_has_left_belongs_to_who_gave_it() -> None:
    """P04, E01: nothing is learnt before a reply was released."""
    stage, on = Stage(), route(A, B)
    memory = Memory(stage.clock)
    exchange, _ = stage.open(on, **stage.sealed(on, "sealed x"))
    memory.answered(exchange, ["resp_1"])
    assert not memory.ledger and not stage.ledger
    exchange.judge(reply(Label.QUOTA_EXHAUSTED), stage.now)
    exchange.accept()
    memory.answered(exchange, ["resp_1"])
    assert memory.ledger.owner_of("resp_1") == "b"
    assert stage.ledger.owner_of("sealed x") == "b"
    unmarked, _ = stage.open(on, **stage.sealed(on, "sealed y"))
    unmarked.accept()
    memory.answered(unmarked, [])
    assert stage.ledger.owner_of("sealed y") == "b"
    plain, _ = stage.open(on)
    plain.accept()
    memory.answered(plain, [])
    memory.answered(plain, ["resp_2"])
    assert memory.ledger.owner_of("resp_2") == "b"


def test_e04_the_states_in_the_headers_of_a_reply() -> None:
    """E04: whatever the case of the name."""
    fields = [(b"X-Codex-Turn-State", b"abc"), (b"content-type", b"text/plain"), (b"x-codex-turn-state", b"def")]
    assert states_of(fields) == ("state abc", "state def")


def test_f17_a_refusal_of_exactly_the_limit_is_told() -> None:
    """F17: and each alias, route and dialect has its own."""
    stage = Stage()
    memory, exchange = Memory(stage.clock), stage.exchange(route(A, B))
    refusal = Refusal(404, "text/plain", b"x" * REFUSAL_LIMIT)
    memory.remember_refusal(exchange, refusal)
    assert memory.last_refusal(exchange) == refusal
    assert memory.last_refusal(stage.exchange(route(A, B, pattern="other"))) is None
    assert memory.last_refusal(stage.exchange(Route("*", route(A, B).choices), "gpt-4")) is None


# -- A10: the tool's own retry of a call that it had an answer to ------------------------------------------------


def test_a10_a_retry_is_known_by_its_body_or_by_its_session() -> None:
    """A10: Codex puts a number of the try into the body; its session tells. A call of another session is no retry."""
    stage = Stage()
    memory, on = Memory(stage.clock), route(A, B, budget=Budget(wait=0))
    failed = stage.answer(on, [reply(Label.OVERLOADED, then=Then(retry_same=0))] * 2)
    call = plan(on, "one")
    memory.ended(failed.exchange, call, b"try 1", Label.OVERLOADED)
    assert memory.spent(call, b"try 1") == Spent(2, 0.0, told=True)
    assert memory.spent(call, b"try 2") == Spent(0, 0.0, told=True)
    assert memory.spent(plan(on, "two"), b"try 2") == NOTHING_SPENT
    assert memory.spent(plan(on), b"try 2") == NOTHING_SPENT
    stage.clock.now += RETRY_SECONDS + 1
    assert memory.spent(call, b"try 3") == NOTHING_SPENT


def test_a10_after_an_answer_the_session_begins_anew() -> None:
    stage = Stage()
    memory, on = Memory(stage.clock), route(A, B, budget=Budget(wait=0))
    failed = stage.answer(on, [reply(Label.OVERLOADED, then=Then(retry_same=0))] * 2)
    memory.ended(failed.exchange, plan(on, "one"), b"try 1", None)
    memory.ended(failed.exchange, plan(on, "one"), b"try 2", Label.OK)
    assert memory.spent(plan(on, "one"), b"try 3") == NOTHING_SPENT


def test_a10_whoever_left_without_an_answer_was_told_nothing() -> None:
    """A10: a tool that hung up may be made to wait again: it did not see that nothing is left."""
    stage, on = Stage(), route(A, B)
    memory, call = Memory(stage.clock), plan(on, "one")
    exchange, _ = stage.open(on)
    memory.left(exchange, call, b"body")
    assert memory.spent(call, b"body") == Spent(1, 0.0)
    assert memory.spent(call, b"other") == NOTHING_SPENT


def test_a10_an_error_in_a_stream_is_told_again_until_something_else_is() -> None:
    """A10: to the same call or in the same session, for as long as a retry is known; not to others."""
    stage = Stage()
    memory, on = Memory(stage.clock), route(A, B)
    refusal = Refusal(200, "text/event-stream", b"data: {}\n\n")
    call, exchange = plan(on, "one"), stage.exchange(on)
    assert memory.last_stream(call, b"try 1") is None
    memory.remember_stream(call, b"try 1", refusal)
    assert memory.last_stream(call, b"try 2") == refusal
    assert memory.last_stream(plan(on, "two"), b"try 1") is None
    memory.ended(exchange, call, b"try 2", None)  # an answer of our own: that very one
    assert memory.last_stream(call, b"try 3") == refusal
    memory.ended(exchange, call, b"try 3", Label.OVERLOADED)
    assert memory.last_stream(call, b"try 4") is None
    memory.remember_stream(plan(on), b"body", refusal)
    assert memory.last_stream(plan(on), b"body") == refusal
    assert memory.last_stream(plan(on), b"other") is None
    stage.clock.now += RETRY_SECONDS + 1
    assert memory.last_stream(plan(on), b"body") is None
    memory.remember_stream(call, b"x", Refusal(200, "text/event-stream", b"x" * (REFUSAL_LIMIT + 1)))
    assert memory.last_stream(call, b"x") is None
