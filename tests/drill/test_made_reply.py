"""What a drill makes up is what a vendor would send: the shipped rules read it as that, in every dialect (H12)."""

from __future__ import annotations

import pytest

from tests.support.decisions import candidate, upstream
from understudy.dialects import DIALECTS, Call, Kind
from understudy.drill.behaviour import Behaviour, read_behaviour
from understudy.drill.behaviour import Kind as Failing
from understudy.drill.made_reply import MARK, MadeReply, made_reply
from understudy.failover import action
from understudy.model import Label, Verdict
from understudy.replies import FaultKind, Held, Hold, Reply, Secret, read_hint
from understudy.requests import Recognised
from understudy.rules.folders import shipped

RULES = shipped()
MODEL = "acme-1"
TAILS = {
    "openai": ["/chat/completions", "/responses", "/completions", "/embeddings"],
    "azure-openai": ["/deployments/acme-1/chat/completions"],
    "anthropic": ["/v1/messages"],
    "anthropic-vertex": ["/publishers/anthropic/models/acme-1:streamRawPredict"],
    "gemini": ["/v1beta/models/acme-1:streamGenerateContent", "/v1beta/models/acme-1:embedContent"],
    "vertex": ["/publishers/google/models/acme-1:streamGenerateContent"],
    "bedrock": ["/model/acme-1/converse-stream", "/model/acme-1/invoke-with-response-stream"],
    "cohere": ["/v2/chat", "/v2/embed"],
    "ollama": ["/api/chat", "/api/generate", "/api/embed"],
}
EVERYWHERE = [(name, tail) for name, tails in TAILS.items() for tail in tails]
EXPECTED = {
    Failing.LIMITED: Label.RATE_LIMITED,
    Failing.QUOTA: Label.QUOTA_EXHAUSTED,
    Failing.UNSUPPORTED: Label.MODEL_UNSUPPORTED,
    Failing.REJECTED: Label.CREDENTIAL_REJECTED,
    Failing.OVERLOADED: Label.OVERLOADED,
    Failing.ERROR_EVENT: Label.OVERLOADED,
}
forms = pytest.mark.parametrize("streamed", [False, True], ids=["plain", "streamed"])
everywhere = pytest.mark.parametrize(("dialect", "tail"), EVERYWHERE, ids=[tail for _, tail in EVERYWHERE])


def made(behaviour: Behaviour, dialect: str, tail: str, *, streamed: bool, query: str = "") -> tuple[MadeReply, Reply]:
    """A reply, and what a hold makes of it."""
    endpoint = DIALECTS[dialect].endpoint("POST", tail)
    assert endpoint is not None
    found = made_reply(behaviour, dialect, MODEL, endpoint=endpoint.name, streamed=streamed, query=query)
    recognised = Recognised(DIALECTS[dialect], endpoint, tail, query)
    there = candidate("a", MODEL, at=upstream(dialect=dialect))
    hold = Hold(recognised, Call("alias", streamed), there, Secret("a", "sk-secret-0123456789"))
    held = hold.start(found.status, found.headers)
    for part in [found.body] if found.body else []:
        held = hold.data(part) if held is Held.MORE else held
    held = hold.end() if held is Held.MORE else held
    assert held is Held.REPLY, held
    return found, hold.reply()


def judged(reply: Reply) -> Verdict:
    return RULES.judge(reply)


def test_every_dialect_is_here() -> None:
    assert TAILS.keys() == DIALECTS.keys()
    for name, tail in EVERYWHERE:
        found = DIALECTS[name].endpoint("POST", tail)
        assert found is not None, (name, tail)
        assert found.kind is Kind.GENERATING


@forms
@everywhere
@pytest.mark.parametrize("kind", EXPECTED, ids=str)
def test_h12_the_rules_read_it_as_what_it_is(kind: Failing, dialect: str, tail: str, streamed: bool) -> None:
    """H12: nothing tells the rules that it is a drill, and they judge it with certainty; its text says what it is."""
    found, reply = made(Behaviour(kind), dialect, tail, streamed=streamed)
    verdict = judged(reply)
    assert (verdict.label, verdict.is_open) == (EXPECTED[kind], False), (verdict, found)
    assert b"made up by a drill of understudy" in found.body
    assert dict(found.headers)[MARK] == str(kind)
    assert action(verdict).scope is not None


@forms
@pytest.mark.parametrize("query", ["", "alt=sse"])
def test_h12_gemini_streams_in_both_framings(query: str, streamed: bool) -> None:
    """H12: an array without `alt=sse`, events with it."""
    tail = "/v1beta/models/acme-1:streamGenerateContent"
    found, reply = made(Behaviour(Failing.ERROR_EVENT), "gemini", tail, streamed=streamed, query=query)
    assert judged(reply).label is Label.OVERLOADED
    sse = dict(found.headers)["content-type"] == "text/event-stream"
    assert sse is (streamed and bool(query))


@forms
@everywhere
def test_h12_an_empty_success_is_no_answer(dialect: str, tail: str, streamed: bool) -> None:
    """H12, A01: a 200 that the next candidate has to make good: a stream that ends, or a body without its member."""
    found, reply = made(Behaviour(Failing.EMPTY), dialect, tail, streamed=streamed)
    verdict = judged(reply)
    assert found.status == 200
    assert verdict.label is not Label.OK
    assert reply.fault is None or reply.fault.kind is FaultKind.EMPTY


@everywhere
def test_h12_a_limit_can_have_a_hint(dialect: str, tail: str) -> None:
    """H12, L01: `429:20` says when to come back, `429` does not."""
    for written, seconds in (("429:20", 20.0), ("429", None)):
        _, reply = made(read_behaviour(written), dialect, tail, streamed=False)
        hint = read_hint(reply, 1_700_000_000.0)
        assert (hint.seconds if hint is not None else None) == seconds


@pytest.mark.parametrize("kind", [Failing.DEAD, Failing.TIMEOUT, Failing.SILENT, Failing.CUT, Failing.SLOW])
def test_what_is_no_reply_is_not_made(kind: Failing) -> None:
    with pytest.raises(ValueError, match="no reply"):
        made_reply(Behaviour(kind), "openai", MODEL, endpoint="chat/completions", streamed=False)
