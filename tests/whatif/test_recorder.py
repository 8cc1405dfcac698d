"""What a saved flow says about a call: held and judged as it would have been on the wire."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from tests.support.decisions import NOW, candidate, route
from tests.support.saved_flows import (
    DONE,
    LIMITED,
    MISSING,
    ODD,
    OK,
    SECRET,
    STREAM,
    attempt,
    flow,
    noted,
    pool_of,
    recorder,
    values,
)
from understudy.model.pool import Pool
from understudy.model.verdict import Label
from understudy.replies.reply import FaultKind
from understudy.whatif.recorder import RecordedAttempt, RecordedCall

POOL = pool_of(route(candidate("work"), candidate("home")))
ERROR = b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'


def read(saved: http.HTTPFlow, pool: Pool | None = None) -> RecordedCall:
    (values_,) = values(saved)
    made = recorder(pool).read(values_)
    assert isinstance(made, RecordedCall), made
    return made


def only(saved: http.HTTPFlow) -> RecordedAttempt:
    (found,) = read(saved).attempts
    return found


def test_a_call_is_recognised_as_on_the_wire() -> None:
    call = read(flow(404, MISSING, took=2.5))
    assert (call.recognised.dialect.name, call.recognised.endpoint.name) == ("openai", "chat/completions")
    assert (call.call.alias, call.call.streamed, call.status, call.began) == ("gpt-5", False, 404, NOW)
    assert recorder().read(values(flow(path="/v1/models"))[0]) is None
    assert recorder().read(values(flow(host="example.com"))[0]) is None


def test_an_error_is_kept_to_be_judged() -> None:
    found = only(flow(404, MISSING, took=2.5))
    assert found.reply is not None
    assert found.reply.error is not None
    assert found.reply.error.code == "model_not_found"
    assert (found.reply.model, found.reply.host, found.reply.alias) == ("gpt-5", "api.openai.com", "gpt-5")
    assert (found.number, found.flow, found.status, found.seconds) == (1, 1, 404, 2.5)
    assert not found.answered


def test_an_answer_is_kept_without_its_body() -> None:
    found = only(flow(200, {**OK, "text": "x" * 100_000}))
    assert found.answered
    assert found.reply is None or found.reply.body == b""
    assert found.size < 5_000


def test_an_error_inside_a_success_is_one() -> None:
    """F11: 200 with a top-level error object."""
    found = only(flow(200, {"error": {"message": "x", "code": "rate_limit_exceeded"}}))
    assert found.reply is not None
    assert not found.answered


@pytest.mark.parametrize(
    ("body", "answered", "complete", "ended_badly"),
    [
        (STREAM + DONE, True, True, False),
        (STREAM, True, False, False),
        (STREAM + ERROR, True, False, True),
        (ERROR, False, False, False),
        (b"data: {}\n\n", False, False, False),
    ],
    ids=["whole", "no end", "error after output", "error first", "no output"],
)
def test_a_stream(body: bytes, answered: bool, complete: bool, ended_badly: bool) -> None:
    """S02, S03, S06: an error before output is a reply, one after it is remembered."""
    found = only(flow(200, body, streamed=True))
    assert found.answered is answered
    assert found.complete is complete
    assert (found.ended_badly is not None) is ended_badly


def test_the_end_of_a_long_stream_is_seen() -> None:
    assert only(flow(200, STREAM * 30_000 + DONE, streamed=True)).complete
    assert only(flow(200, STREAM * 30_000 + ERROR, streamed=True)).ended_badly is not None


def test_a_stream_is_decided_when_it_begins_and_the_rest_when_it_has_ended() -> None:
    live, plain = flow(200, STREAM + DONE, streamed=True, took=60), flow(took=60)
    for saved in (live, plain):
        assert saved.response is not None
        saved.response.timestamp_start = NOW + 2
    assert [only(live).seconds, only(plain).seconds] == [2, 60]
    assert only(flow(0, error="server closed connection", took=9)).seconds == 9


def test_a_stream_that_was_not_kept_had_begun() -> None:
    saved = flow(200, STREAM, streamed=True)
    assert saved.response is not None
    saved.response.raw_content = None
    found = only(saved)
    assert found.answered
    assert not found.complete


def test_a_stream_that_was_cut_after_output_is_remembered() -> None:
    """S04: the cut is what it ended in."""
    found = only(flow(200, STREAM, streamed=True, error="server closed connection"))
    assert found.ended_badly is not None
    assert found.ended_badly.fault is not None
    assert found.ended_badly.fault.kind is FaultKind.CUT


@pytest.mark.parametrize(
    ("saved", "kind", "sent"),
    [
        (flow(0, error="server closed connection"), FaultKind.CLOSED, True),
        (flow(0, error="[Errno 111] Connect call failed", connected=False), FaultKind.CONNECT, False),
        (flow(0, error="tls: certificate expired", facts=noted(("work", "overloaded"))), FaultKind.TLS, False),
        (flow(0, error="silence: no byte of a reply in time"), FaultKind.SILENCE, True),
        (flow(200, OK, error="peer closed connection"), FaultKind.CUT, True),
    ],
)
def test_a_transport_fault(saved: http.HTTPFlow, kind: FaultKind, sent: bool) -> None:
    """L09: what the recorder noted instead of a reply."""
    found = only(saved)
    assert found.reply is not None
    assert found.reply.fault is not None
    assert (found.reply.fault.kind, found.reply.fault.sent) == (kind, sent)


@pytest.mark.parametrize("error", ["Client disconnected.", "cut: cancelled, the tool went away"])
def test_a_tool_that_goes_away_says_nothing_about_anybody(error: str) -> None:
    """L12: nothing is learnt from it."""
    call = read(flow(0, error=error))
    assert call.gone
    assert call.attempts == []
    assert only(flow(200, STREAM, streamed=True, error=error)).ended_badly is None


def test_an_answer_of_our_own_is_no_reply_of_an_upstream() -> None:
    call = read(flow(400, MISSING, headers={"x-understudy": "answer"}, facts=noted(("work", "overloaded"), answer=0)))
    assert call.own
    assert call.attempts == []


def test_notes_say_who_answered_and_as_which_attempt() -> None:
    call = read(flow(facts=noted(("work", "rate_limited"), ("home", "ok"))), POOL)
    (found,) = call.attempts
    assert (found.number, found.credential, found.model) == (2, "home", "m1")
    assert call.exchange == "abc"


def test_notes_of_earlier_versions_are_read() -> None:
    old = {"route": "gpt-5", "alias": "gpt-5", "attempts": 3, "credential": "home", "model": "m1"}
    (found,) = read(flow(facts=old)).attempts
    assert (found.number, found.credential, found.model) == (3, "home", "m1")


def test_an_attempt_is_a_reply_of_its_own_with_host_and_model_of_its_upstream() -> None:
    made = recorder(POOL).read(values(attempt(1, "work", "rate_limited", 429, LIMITED))[0])
    assert isinstance(made, RecordedAttempt)
    assert made.reply is not None
    assert (made.number, made.credential, made.reply.host, made.reply.model) == (1, "work", "openai.example", "m1")


def test_a_host_that_the_pool_no_longer_names_is_known_from_the_notes() -> None:
    saved = flow(host="gone.example", path="/odd", facts=noted(("work", "ok")))
    assert read(saved).recognised.endpoint.name == "chat/completions"
    assert recorder().read(values(flow(host="gone.example", path="/odd"))[0]) is None


@pytest.mark.parametrize(
    "echo", [SECRET, quote(SECRET, safe=""), base64.b64encode(SECRET.encode()).decode()], ids=["plain", "url", "base64"]
)
def test_an_echo_of_the_tools_credential_is_masked_before_anything_judges_it(echo: str) -> None:
    """R06, R07: evidence is cut at 200 characters, and half a secret could not be found any more."""
    found = only(flow(400, {"error": {"message": f"{'x' * 185} {echo}"}}, headers={"x-echo": echo}))
    assert found.reply is not None
    verdict = recorder().ruleset.judge(found.reply)
    assert verdict.label is Label.REQUEST_INVALID
    for text in (verdict.evidence, found.reply.text):
        assert echo[:12] not in text


ANY_FACTS = st.dictionaries(
    st.sampled_from(
        ["exchange", "attempt", "answer", "attempts", "alias", "dialect", "streamed", "model", "tried", "label"]
    ),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
)


@given(facts=ANY_FACTS)
def test_whatever_the_notes_of_a_file_say_nothing_breaks(facts: dict[str, Any]) -> None:
    saved = flow(429, LIMITED)
    saved.metadata["understudy"] = facts
    made = recorder().read(values(saved)[0])
    assert isinstance(made, RecordedCall | RecordedAttempt)


def test_a_recorder_shows_no_secret() -> None:
    """R07: not in a repr either."""
    call = read(flow(400, {"error": {"message": json.dumps(ODD) + SECRET}}, sent={"x-api-key": SECRET}))
    assert SECRET not in repr(call)
