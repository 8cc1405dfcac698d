"""What happened, as far as a file tells, and whether it would happen again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http

from tests.support.decisions import NOW, candidate, route
from tests.support.saved_flows import LIMITED, MISSING, ODD, attempt, flow, noted, pool_of, recorder, values
from tests.whatif.test_simulation import POOL, SURE, play
from understudy.whatif.recorded_outcome import differs, failed_then, noted_attempts, noted_skips, noted_waits, then
from understudy.whatif.recorder import RecordedCall

OLD = {"route": "gpt-5", "alias": "gpt-5", "attempts": 1, "credential": "work", "model": "m1"}
REPLAYED = [
    attempt(1, "work", "model_unsupported", 404, MISSING),
    flow(facts=noted(("work", "model_unsupported"), ("home", "ok"))),
]


def call_of(saved: http.HTTPFlow) -> RecordedCall:
    made = recorder(POOL).read(values(saved)[0])
    assert isinstance(made, RecordedCall)
    return made


@pytest.mark.parametrize(
    ("saved", "told", "failed"),
    [
        (flow(404, MISSING), "the tool got HTTP 404", True),
        (flow(), "the tool got HTTP 200", False),
        (flow(0, error="refused"), "the tool got no reply", True),
        (flow(0, error="Client disconnected."), "the tool went away", False),
        (
            flow(429, MISSING, headers={"x-understudy": "answer"}, facts=noted(("work", "rate_limited"), answer=0)),
            "work m1 rate_limited; understudy answered itself with HTTP 429",
            True,
        ),
        (REPLAYED[1], "work m1 model_unsupported, home m1 ok; the tool got HTTP 200 of home m1", False),
        (flow(facts=OLD), "the tool got HTTP 200 of work m1", False),
        (flow(facts={**OLD, "attempts": 3}), "3 attempts; the tool got HTTP 200 of work m1", False),
    ],
)
def test_what_happened_in_words(saved: http.HTTPFlow, told: str, failed: bool) -> None:
    call = call_of(saved)
    assert then(call) == told
    assert failed_then(call) is failed


@pytest.mark.parametrize(
    ("saved", "different"),
    [
        ([flow()], False),
        ([flow(404, MISSING)], True),
        ([flow(418, ODD)], True),  # another candidate is asked for a second opinion now
        ([flow(model="other")], False),
        ([flow(model="other", facts={**noted(("work", "ok")), "alias": "other"})], True),
        ([flow(0, error="Client disconnected.")], False),
        (REPLAYED, False),
        (REPLAYED[1:], False),
        ([flow(facts=noted(("work", "ok")))], False),
        ([flow(facts=noted(("home", "ok")))], True),
        ([flow(418, ODD, facts=noted(("work", "request_invalid")))], True),
        ([flow(facts=OLD)], False),
        ([flow(facts={**OLD, "attempts": 2})], False),
        ([flow(facts={**OLD, "credential": "former"})], True),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value),
)
def test_whether_it_would_happen_again(saved: list[http.HTTPFlow], different: bool) -> None:
    (played,) = play(saved)
    assert differs(played) is different


def test_an_error_that_nobody_compares_would_happen_again() -> None:
    (played,) = play([flow(418, ODD)], SURE)
    assert differs(played) is False


def test_a_call_that_a_suspension_moves_is_different() -> None:
    _, second = play([flow(429, LIMITED, headers={"retry-after": "20"}), flow(at=NOW + 3, facts=noted(("work", "ok")))])
    assert differs(second)


def test_another_order_is_different() -> None:
    (played,) = play(REPLAYED, pool_of(route(candidate("home"), candidate("work"))))
    assert differs(played)


def test_skips_and_suspensions_are_told_as_they_were_noted() -> None:
    facts = noted(("home", "ok"), skipped=[{"credential": "work", "model": "m1", "why": "suspended for x"}])
    facts["tried"][0]["suspended"] = {"what": "candidate home m1", "seconds": 600.0, "hint": "retry-after"}
    call = call_of(flow(facts=facts))
    assert noted_skips(call) == [("work m1", "suspended for x")]
    assert noted_attempts(call)[0].suspended == "candidate home m1 for 10m, as retry-after said"


def test_waits_are_told_with_the_attempt_that_they_came_before() -> None:
    facts = noted(("home", "ok"), waits=[{"before": 1, "seconds": 4.94, "why": "all are suspended"}, {"seconds": "x"}])
    assert noted_waits(call_of(flow(facts=facts))) == [(1, "4.9s: all are suspended")]


def test_a_file_cannot_speak_to_the_terminal() -> None:
    facts = noted(("home", "ok"), skipped=[{"credential": "a\x1b[2J", "model": "b\nc", "why": "\u202e"}])
    facts["tried"][0]["evidence"] = "one\ntwo\x07"
    call = call_of(flow(facts=facts))
    said = str(noted_skips(call)) + noted_attempts(call)[0].evidence
    assert said.isprintable()


JUNK = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["number", "suspended", "seconds", "what", "why", "label"]), inner, max_size=4
        )
    ),
)


@given(tried=JUNK, skipped=JUNK)
def test_whatever_was_noted_there_are_words_for_it(tried: Any, skipped: Any) -> None:
    call = call_of(flow())
    call.facts = {"tried": tried, "skipped": skipped, "waits": skipped}
    assert then(call)
    assert isinstance(noted_waits(call), list)
    assert isinstance(noted_skips(call), list)
