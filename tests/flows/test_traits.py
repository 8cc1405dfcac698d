"""What is read off a saved flow without judging it."""

from __future__ import annotations

import math

import pytest

from tests.support.decisions import NOW
from tests.support.saved_flows import flow, noted, values
from understudy.flows.traits import LONGEST, fault_of, is_gone, number_of, request_of, seconds_until, text_of
from understudy.replies.reply import FaultKind


@pytest.mark.parametrize(
    ("error", "connected", "kind", "message", "sent"),
    [
        ("connect: refused", True, FaultKind.CONNECT, "refused", False),
        ("silence: no byte", True, FaultKind.SILENCE, "no byte", True),
        ("[Errno 111] Connect call failed", False, FaultKind.CONNECT, "[Errno 111] Connect call failed", False),
        ("server closed connection", True, FaultKind.CLOSED, "server closed connection", True),
        ("odd: words", True, FaultKind.CLOSED, "odd: words", True),
    ],
)
def test_a_fault_in_our_words_and_in_others(
    error: str, connected: bool, kind: FaultKind, message: str, sent: bool
) -> None:
    (saved,) = values(flow(0, error=error, connected=connected))
    fault = fault_of(saved)
    assert (fault.kind, fault.message, fault.sent) == (kind, message, sent)


def test_who_went_away() -> None:
    told = [flow(0, error="Client disconnected."), flow(0, error="cut: cancelled, the tool went away")]
    told.append(flow(0, error="x", facts={**noted(("work", "ok")), "label": "cancelled"}))
    assert all(map(is_gone, values(*told)))
    assert not any(map(is_gone, values(flow(), flow(0, error="server disconnected"))))


def test_a_time_is_bounded_and_never_negative() -> None:
    (saved,) = values(flow())
    assert seconds_until(saved, NOW + 2.5) == 2.5
    assert seconds_until(saved, NOW - 5) == 0
    assert seconds_until(saved, NOW + 1e9) == LONGEST
    assert seconds_until(saved, 0) == 0
    assert seconds_until(saved, math.inf) == 0


@pytest.mark.parametrize("value", [None, 0, -1, 1000, True, 1.5, "1", [1]])
def test_what_is_no_number_is_none(value: object) -> None:
    assert number_of({"x": value}, "x") == 0
    assert number_of({"x": 7}, "x") == 7


def test_a_text_is_bounded() -> None:
    assert text_of({"x": "y" * 500}, "x") == "y" * 200
    assert text_of({"x": 1}, "x") == ""


def test_the_request_is_what_the_engine_reads() -> None:
    (saved,) = values(flow(path="/v1/chat/completions?a=%FC", sent={"x-odd": "\u20ac"}))
    request = request_of(saved)
    assert (request.method, request.host, request.path) == ("POST", "api.openai.com", "/v1/chat/completions?a=%FC")
    assert request.content == saved.body
    assert request.headers["content-type"] == "application/json"
