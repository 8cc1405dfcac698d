"""What is remembered from one call to the next: the last refusal, and what earlier rounds have used up."""

from __future__ import annotations

import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from decisions import OTHER, Stage, candidate, reply, route
from understudy.affinity import NOTHING_SPENT, Spent
from understudy.conversation import Conversation
from understudy.dialects import DIALECTS
from understudy.dialects.base import Call
from understudy.memory import REFUSAL_LIMIT, Memory, Plan, Refusal
from understudy.pool import Budget, Route
from understudy.rules import Label
from understudy.sites import Recognised
from understudy.steps import Attempt, Wait

A, B = candidate("a"), candidate("b", at=OTHER)
BODY = b'{"error": {"message": "no such model"}}'


def plan(on: Route) -> Plan:
    """A call that this route serves."""
    openai = DIALECTS["openai"]
    endpoint = openai.endpoint("POST", "/chat/completions")
    assert endpoint is not None
    return Plan(Recognised(openai, endpoint, "/chat/completions", ""), Call("gpt-5", False), on, Conversation())


# -- F17 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_f17_a_refusal_is_told_as_it_reads(encoding: str) -> None:
    """F17: its body is remembered decoded, so however it was encoded, others can be told the same."""
    stage = Stage()
    memory, exchange = Memory(stage.clock), stage.exchange(route(A, B))
    headers = {"content-type": "application/problem+json"} | ({"content-encoding": encoding} if encoding else {})
    assert memory.last_refusal(exchange) is None
    memory.remember_refusal(exchange, http.Response.make(404, b"", headers), BODY)
    assert memory.last_refusal(exchange) == Refusal(404, "application/problem+json", BODY)
    memory.remember_refusal(exchange, http.Response.make(400), b"x" * (REFUSAL_LIMIT + 1))
    assert memory.last_refusal(exchange) == Refusal(404, "application/problem+json", BODY)


# -- W04: a tool that gives up by itself -------------------------------------------------------------------------


def test_w04_a_round_that_the_tool_gives_up_has_spent_what_it_sent() -> None:
    """W04: the next round of the same request has what is left; that of another request has it all."""
    stage, on, request = Stage(), route(A, B), tutils.treq(content=b"one")
    memory, call = Memory(stage.clock), plan(on)
    exchange, _ = stage.open(on)
    exchange.judge(reply(Label.MODEL_UNSUPPORTED), stage.now)
    memory.left(exchange, call, request)
    assert memory.spent(call, request) == Spent(2, 0.0)
    assert memory.spent(call, tutils.treq(content=b"two")) == NOTHING_SPENT
    again, _ = stage.open(on, spent=memory.spent(call, request))
    memory.left(again, call, request)
    assert memory.spent(call, request) == Spent(3, 0.0)


def test_w04_a_wait_that_the_tool_gives_up_counts_as_far_as_it_went() -> None:
    """W04: also the longest wait is shared; but without anything sent there is nothing to share."""
    stage, request = Stage(), tutils.treq()
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
    other = tutils.treq(content=b"another")
    memory.left(waiting, call, other)
    assert memory.spent(call, other) == NOTHING_SPENT


def test_w04_a_stream_that_the_tool_has_was_answered() -> None:
    """W04: whoever stops a stream that runs and asks the same again has a budget of its own."""
    stage, on, request = Stage(), route(A, B), tutils.treq()
    memory, call = Memory(stage.clock), plan(on)
    exchange, _ = stage.open(on, streamed=True)
    exchange.accept()
    memory.left(exchange, call, request)
    assert memory.spent(call, request) == NOTHING_SPENT
