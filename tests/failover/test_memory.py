"""What is remembered from one call to the next: the last refusal, and what earlier rounds have used up."""

from __future__ import annotations

from tests.support.decisions import OTHER, Stage, candidate, reply, route
from understudy.dialects import DIALECTS
from understudy.dialects.base import Call
from understudy.failover.affinity import NOTHING_SPENT, RETRY_SECONDS, Spent
from understudy.failover.memory import REFUSAL_LIMIT, TOOL, UPLOAD_REPLY, Memory, Plan, Refusal
from understudy.failover.steps import Attempt, Wait
from understudy.model.pool import Budget, Route
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
