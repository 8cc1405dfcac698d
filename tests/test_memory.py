"""What is remembered from one call to the next: the last refusal, and what earlier rounds have used up."""

from __future__ import annotations

import pytest
from mitmproxy import http

from decisions import OTHER, Stage, candidate, route
from understudy.conversation import Conversation
from understudy.dialects import DIALECTS
from understudy.dialects.base import Call
from understudy.memory import REFUSAL_LIMIT, Memory, Plan, Refusal
from understudy.pool import Route
from understudy.sites import Recognised

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
