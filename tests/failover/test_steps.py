"""The values between the exchange and the layer: whom a request may be sent to, and which replies a tool may get."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import pytest

from tests.support.decisions import OTHER, Source, candidate, fault
from understudy.failover.steps import HEDGED, Attempt, Compared, Outcome, Request, Struck
from understudy.model import Candidate, Key, Label, Scope, Suspension, Verdict
from understudy.replies import FaultKind

A, B, C = candidate("a"), candidate("b"), candidate("c", at=OTHER)


class Own(Source):
    """The secret of a tool's own credential."""

    is_client = True


OWN = replace(A, credential=replace(A.credential, name="own", secret=Own()))


def outcome(status: int, label: Label = Label.UNKNOWN, who: Candidate = A, *, hedged: bool = False) -> Outcome:
    return Outcome(Attempt(1, who), Verdict(label, "test"), status, None, 0, hedged=hedged)


def test_an_outcome_with_another_suspension_is_the_same_in_all_else() -> None:
    """``suspending`` is written out, so that a field could be forgotten."""
    verdict, cut = Verdict(Label.OVERLOADED, "test"), fault(FaultKind.CUT).fault
    full = Outcome(Attempt(1, A), verdict, 500, None, 3, cut, Compared.ASKED, "signature", hedged=True)
    assert all(getattr(full, each.name) != each.default for each in dataclasses.fields(full))
    imposed = Suspension(Key(Scope.CREDENTIAL, "a"), 1.0, 2.0, Label.OVERLOADED, "test")
    assert full.suspending(imposed) == replace(full, suspension=imposed)


@pytest.mark.parametrize(
    ("status", "label", "pooled", "own"),
    [
        (200, Label.OK, True, True),
        (400, Label.REQUEST_INVALID, True, True),
        (429, Label.QUOTA_EXHAUSTED, True, True),
        (401, Label.CREDENTIAL_REJECTED, False, True),
        (401, Label.MODEL_UNSUPPORTED, False, True),
        (403, Label.CREDENTIAL_REJECTED, False, True),
        (403, Label.UNKNOWN, False, True),
        (403, Label.QUOTA_EXHAUSTED, False, True),
        (403, Label.MODEL_UNSUPPORTED, True, True),
        (403, Label.CONTENT_FILTERED, True, True),
        (403, Label.CAPABILITY_UNSUPPORTED, True, True),
        (0, Label.OVERLOADED, False, False),
    ],
)
def test_w07_which_replies_a_tool_may_get(status: int, label: Label, pooled: bool, own: bool) -> None:
    """W07: no rejected login that is not its own; of its own login it gets whatever was said."""
    assert outcome(status, label).releasable is pooled
    assert outcome(status, label, OWN).releasable is own


def test_an_outcome_says_its_label_or_that_it_was_given_up() -> None:
    assert outcome(503, Label.OVERLOADED).word == "overloaded"
    assert outcome(0, hedged=True).word == HEDGED


@pytest.mark.parametrize("kind", FaultKind)
def test_l11_what_was_not_even_reached(kind: FaultKind) -> None:
    """L11: neither a connection nor a handshake; a reply came from somewhere."""
    failed = Outcome(Attempt(1, A), Verdict(Label.OVERLOADED), 0, None, 0, fault(kind).fault)
    assert failed.is_unreachable is (kind in (FaultKind.CONNECT, FaultKind.TLS))
    assert not outcome(503).is_unreachable


def request(**facts: object) -> Request:
    return Request("gpt-5", True, False, **{"blocked": {}, **facts})  # type: ignore[arg-type]


def test_why_a_candidate_may_not_be_used() -> None:
    """P04: what binds the request goes first, then its upstream, then its credential."""
    assert request().why_not(A) == ""
    assert request(bound_to="a").why_not(A) == ""
    assert request(bound_to="b").why_not(A) == "not asked: only b knows what this request refers to"
    assert request(bound_to="b", bound_by="file x").why_not(A) == "not asked: file x belongs to b"
    facts = {"blocked": {"openai": "no TLS"}, "barred": {"a": "not here"}}
    assert [request(**facts).why_not(each) for each in (A, B, C)] == ["no TLS", "no TLS", ""]
    assert [request(barred=facts["barred"]).why_not(each) for each in (A, B)] == ["not here", ""]
    out = replace(B, credential=replace(B.credential, missing="no file"))
    assert "no file" in request().why_not(out)


def test_p05_whose_candidates_are_not_asked() -> None:
    """P05: a name that a tool has chosen is fit for a log."""
    assert request().not_theirs.endswith("does not name calls without a user's name")
    assert request(user="bob\n").not_theirs.endswith(r"does not name the user bob\n")


@pytest.mark.parametrize(
    ("without", "count"),
    [
        (frozenset(), 0),
        ({""}, 0),
        ({"", "sealed x"}, 1),
        ({"", "rs_1", "sealed x"}, 1),
        ({"", "rs_1", "rs_2", "sealed x"}, 2),
        ({"", "rs_1", "sealed x", "sealed y", "sealed z"}, 3),
    ],
)
def test_e01_how_many_parts_are_left_out(without: frozenset[str], count: int) -> None:
    """E01: a piece of reasoning is known by its id and by its content, and is one part."""
    assert Attempt(1, B, without=frozenset(without)).left_out == count


def test_e01_from_whom_an_attempt_takes_a_conversation() -> None:
    """E01: only where it goes without some of its parts; several logins of one name are one."""
    left = frozenset({"", "sealed x"})
    assert request(prefers="a").moved_from(Attempt(1, B, without=left)) == "a"
    assert request(prefers="b~2").moved_from(Attempt(1, B, without=left)) == ""
    assert request(prefers="a").moved_from(Attempt(1, B)) == ""
    assert request(prefers="a").moved_from(Attempt(1, B, without=frozenset({""}))) == ""
    assert request().moved_from(Attempt(1, B, without=left)) == ""


def test_h12_only_an_attempt_of_a_drill_is_drilled() -> None:
    assert (Attempt(1, A).drilled, Struck(1, A).drilled) == (False, True)
